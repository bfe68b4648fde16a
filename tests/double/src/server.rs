//! The HTTP side: takes requests off their connections, spoils answers where a fault says so, and sends them. Levers, which
//! do what the tour offers by a POST, are no part of the API: no account, limit or journal knows of them.

use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev, web};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::sleep;

use crate::api;
use crate::faults::{Effect, Fault};
use crate::message::{Asked, Reply};
use crate::state::{Interlude, World};

/// The longest request body that is taken.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How long the first half of a body has to leave before its connection is cut.
const HALF_BODY_LEAVES: Duration = Duration::from_millis(50);

/// A second handle of a request's connection, to cut it.
struct Connection(std::net::TcpStream);

/// A server on `listener`, which runs once it is polled.
pub(super) fn server(listener: TcpListener, world: Arc<World>) -> io::Result<dev::Server> {
    let world = web::Data::from(world);
    let app = move || {
        App::new()
            .app_data(world.clone())
            .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
            .default_service(web::to(serve))
    };
    // Half-closed connections are not allowed, so that a request whose client has gone is dropped where it waits.
    let server = HttpServer::new(app).workers(1).disable_signals().h1_allow_half_closed(false);
    let server = server.on_connect(|io, extensions| {
        let stream = io.downcast_ref::<TcpStream>().and_then(|io| io.as_fd().try_clone_to_owned().ok());
        if let Some(stream) = stream {
            extensions.insert(Connection(stream.into()));
        }
    });
    Ok(server.listen(listener)?.run())
}

async fn serve(request: HttpRequest, body: web::Bytes, world: web::Data<World>) -> HttpResponse {
    let asked = asked(&request, body);
    if let Some(reply) = world.pull(&asked) {
        return whole(reply);
    }
    let (number, fault) = world.begin(&asked);
    let reply = match &fault {
        Some(Fault::Late(wait, Effect::Done)) => {
            let reply = world.answer(&asked);
            sleep(*wait).await;
            reply
        }
        Some(Fault::Late(wait, Effect::NotDone)) => {
            sleep(*wait).await;
            world.answer(&asked)
        }
        Some(Fault::Late(wait, effect)) => {
            happens(&world, &asked, *effect);
            sleep(*wait).await;
            Reply::html(504)
        }
        Some(Fault::Gateway(status, effect)) => {
            happens(&world, &asked, *effect);
            Reply::html(*status)
        }
        Some(Fault::Cut(effect)) => {
            happens(&world, &asked, *effect);
            cut(&request);
            return HttpResponse::InternalServerError().finish(); // goes nowhere
        }
        Some(fault) => fault.reply().unwrap_or_else(|| world.answer(&asked)),
        None => world.answer(&asked),
    };
    world.answered(number, reply.status);
    if fault == Some(Fault::HalfBody) { half(request, reply) } else { whole(reply) }
}

/// Lets a request take effect whose answer nobody waits for.
fn happens(world: &web::Data<World>, asked: &Asked, effect: Effect) {
    match effect {
        Effect::Done => drop(world.answer(asked)),
        Effect::NotDone => {}
        Effect::Later(wait) => {
            let (world, asked) = (world.clone(), asked.clone());
            actix_web::rt::spawn(async move {
                sleep(wait).await;
                world.answer(&asked);
            });
        }
    }
}

fn asked(request: &HttpRequest, body: web::Bytes) -> Asked {
    let header =
        |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
    Asked {
        method: request.method().as_str().to_owned(),
        path: request.path().to_owned(),
        query: request.query_string().to_owned(),
        headers: request.headers().iter().map(header).collect(),
        body: body.to_vec(),
    }
}

fn whole(reply: Reply) -> HttpResponse {
    let body = reply.body.clone();
    head(&reply).body(body)
}

fn head(reply: &Reply) -> actix_web::HttpResponseBuilder {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if let Some(reason) = reply.reason {
        response.reason(reason);
    }
    if let Some(retry_after) = &reply.retry_after {
        response.insert_header(("retry-after", retry_after.as_str()));
    }
    if !reply.content_type.is_empty() {
        response.content_type(reply.content_type);
    }
    response
}

/// The head and the first half of the body; then the connection ends.
fn half(request: HttpRequest, reply: Reply) -> HttpResponse {
    let length = reply.body.len() as u64;
    let first = Bytes::copy_from_slice(&reply.body[..reply.body.len() / 2]);
    let chunks = stream::unfold((Some(first), request), |(first, request)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, request)));
        }
        sleep(HALF_BODY_LEAVES).await;
        cut(&request);
        Some((Err(io::Error::other("cut")), (None, request)))
    });
    head(&reply).body(SizedStream::new(length, Box::pin(chunks)))
}

fn cut(request: &HttpRequest) {
    if let Some(Connection(stream)) = request.conn_data::<Connection>() {
        stream.shutdown(Shutdown::Both).ok(); // an error says that the client has done so
    }
}

impl World {
    /// Notes a request, and says what goes wrong with it.
    pub(super) fn begin(&self, asked: &Asked) -> (u64, Option<Fault>) {
        let mut state = self.lock();
        let (now, redact) = (state.clock.now(), state.redact);
        (state.journal.note(asked, now, redact), state.faults.take(asked))
    }

    /// Lets a request take effect, and then others act.
    pub(super) fn answer(&self, asked: &Asked) -> Reply {
        let mut state = self.lock();
        let reply = api::answer(&mut state, asked);
        let reply = if state.manners.byte_order_mark { reply.with_mark() } else { reply };
        let due: Vec<Interlude> = state
            .interludes
            .iter_mut()
            .filter_map(|(matching, act)| matching.take(asked).then(|| Arc::clone(act)))
            .collect();
        state.interludes.retain(|(matching, _)| !matching.is_over());
        drop(state);
        due.iter().for_each(|act| act(self));
        reply
    }

    pub(super) fn answered(&self, number: u64, status: u16) {
        self.lock().journal.answer(number, status);
    }
}

/// The path that lists the levers; each is below it.
const PATH: &str = "/double";

impl World {
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
    use super::*;
    use crate::Nexudus;
    use crate::state::{Lever, Options};
    use std::sync::atomic::{AtomicU32, Ordering};

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
