//! The bodies of one action, or of every action in turn.

use std::sync::Arc;

use super::delivery::Delivery;
use super::payloads::{Template, payload, wire_body};
use crate::action::catalogue::ENTRIES;
use crate::action::{Action, Actions};
use crate::signature::SigningKey;

/// The bodies to send, with the names of their actions.
pub struct Bodies {
    /// One for each action.
    pub list: Vec<(Arc<str>, Template)>,
    /// A note on the action, if neither the catalogue nor the configuration has it.
    pub note: Option<String>,
}

impl Bodies {
    /// Returns the given body, else the invented record of the action; with `all` one body of each action.
    ///
    /// # Errors
    /// The message, if there is no invented record.
    pub fn new(action: &str, given: Option<Vec<u8>>, actions: &Actions) -> Result<Self, String> {
        let given = given.map(Template::new);
        let body = |name: &str| {
            given.clone().or_else(|| payload(name).map(|fixture| Template::new(wire_body(fixture))))
        };
        if action.eq_ignore_ascii_case("all") {
            let named = |name: &'static str| Some((Arc::from(name), body(name)?));
            return Ok(Self {
                list: ENTRIES.iter().filter_map(|entry| named(entry.name)).collect(),
                note: None,
            });
        }
        let known = actions.find(action).map(|index| actions.get(index));
        let question = actions.question(action);
        let name = known.map_or(action, Action::name);
        let template = body(name).ok_or_else(|| match known {
            Some(_) => format!("there is no invented record for {action:?}, expected --payload FILE with it"),
            None => format!(
                "{action:?} is not an action of the catalogue{question}, expected --payload FILE to send it all the same"
            ),
        })?;
        let note = known.is_none().then(|| {
            format!(
                "{name:?} is in neither the catalogue nor extra_actions{question}; the bridge will keep it on the quarantine topic"
            )
        });
        Ok(Self { list: vec![(name.into(), template)], note })
    }

    /// Returns the delivery of this number. Deliveries take the actions in turn; each further turn takes the next copies.
    pub fn delivery(&self, number: u64, source: &Arc<str>, key: Option<&SigningKey>) -> Delivery {
        let kinds = self.list.len() as u64;
        let (action, template) = &self.list[(number % kinds) as usize];
        Delivery::new(Arc::clone(source), Arc::clone(action), template.copy(number / kinds), key)
    }
}
