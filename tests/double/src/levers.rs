//! Levers beside Nexudus: what whoever runs the double lets others do by a POST, such as taking Kafka away in `dev`. They
//! are no part of the API: no account, no limit and no journal knows of them.

use std::fmt;
use std::sync::Arc;

use super::message::{Asked, Reply};
use super::state::World;

/// The path that lists the levers; each is below it.
const PATH: &str = "/double";

/// Something that a POST to `/double/{name}` does.
#[derive(Clone)]
pub struct Lever {
    /// Its name, such as `kafka/stop`.
    pub name: &'static str,
    /// What it does, and what the answer is: a line for people.
    pub act: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Lever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lever").field("name", &self.name).finish_non_exhaustive()
    }
}

impl World {
    /// Adds a lever.
    pub fn add_lever(&self, lever: Lever) {
        self.lock().levers.push(lever);
    }

    /// The answer to a request that is for a lever, or for their list.
    pub(super) fn pull(&self, asked: &Asked) -> Option<Reply> {
        let name = asked.path.strip_prefix(PATH)?.trim_matches('/');
        let levers = self.lock().levers.clone();
        let list: String = levers.iter().map(|lever| format!("POST {PATH}/{}\n", lever.name)).collect();
        let list = format!("A double of Nexudus.\n{list}");
        if name.is_empty() {
            return Some(Reply::text(200, list));
        }
        let Some(lever) = levers.iter().find(|lever| lever.name == name) else {
            return Some(Reply::text(404, list));
        };
        if asked.method != "POST" {
            return Some(Reply::text(405, list));
        }
        Some(Reply::text(200, format!("{}\n", (lever.act)())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::{Nexudus, Options};
    use super::*;

    #[test]
    fn a_lever_is_pulled_by_a_post_to_its_name_and_by_nothing_else() {
        let nexudus = Nexudus::start(Options::default()).unwrap();
        let pulled = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&pulled);
        let act = move || format!("pulled {}", count.fetch_add(1, Ordering::Relaxed) + 1);
        nexudus.add_lever(Lever { name: "kafka/stop", act: Arc::new(act) });
        let ask = |method: &str, path: &str| {
            let [method, path, query] = [method, path, ""].map(str::to_owned);
            let asked = Asked { method, path, query, headers: Vec::new(), body: Vec::new() };
            let reply = nexudus.pull(&asked)?;
            Some((reply.status, String::from_utf8(reply.body).unwrap()))
        };
        let list = "A double of Nexudus.\nPOST /double/kafka/stop\n".to_owned();
        assert_eq!(ask("GET", "/double"), Some((200, list.clone())));
        assert_eq!(ask("GET", "/double/kafka/stop"), Some((405, list.clone())));
        assert_eq!(ask("POST", "/double/kafka"), Some((404, list)));
        assert_eq!(ask("POST", "/api/sys/webhooks"), None);
        assert_eq!(pulled.load(Ordering::Relaxed), 0);
        assert_eq!(ask("POST", "/double/kafka/stop"), Some((200, "pulled 1\n".to_owned())));
    }
}
