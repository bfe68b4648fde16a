//! The HTTP server: receives requests, applies faults, and sends responses. Levers are not part of the API: they need no
//! account, and limits and journal ignore them.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::ops::Deref;
use std::os::fd::AsFd as _;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::rt::System;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpRequest, HttpResponse, HttpResponseBuilder, HttpServer, dev, web};
use bytes::Bytes;
use futures_util::stream;
use nexudus_bridge::signature::BYTE_ORDER_MARK;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::behaviour::{Effect, Fault, Matching};
use crate::message::{Request, Response};
use crate::state::{Options, Reaction, World};
use crate::{api, send};

/// Time for the first half of a body to be sent before its connection is cut.
const HALF_BODY_TIME: Duration = Duration::from_millis(50);

/// A running double. Dropping it stops it without waiting.
pub struct Nexudus {
    world: Arc<World>,
    address: SocketAddr,
    /// The server stops when this is dropped.
    _stop: oneshot::Sender<()>,
}

impl Nexudus {
    /// Starts a double on a thread of its own. It accepts requests when this returns.
    pub fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let address = listener.local_addr()?;
        let client = nexudus_bridge::sender::client(send::TIMEOUT).map_err(io::Error::other)?;
        let (queue, deliveries) = tokio::sync::mpsc::unbounded_channel();
        let world = Arc::new(World::new(&options, queue));
        let (stop, stop_requested) = oneshot::channel::<()>();
        let (started, has_started) = mpsc::sync_channel(1);
        let inside = Arc::clone(&world);
        thread::Builder::new().name("nexudus-double".to_owned()).spawn(move || {
            System::new().block_on(async move {
                let server = match server(listener, Arc::clone(&inside)) {
                    Ok(server) => server,
                    Err(error) => return drop(started.send(Err(error))),
                };
                started.send(Ok(())).ok(); // the receiver waits
                let handle = server.handle();
                let serving = actix_web::rt::spawn(server);
                tokio::select! {
                    _ = stop_requested => {}
                    () = send::run(inside, client, deliveries) => {}
                }
                handle.stop(false).await;
                serving.await.ok(); // stopped, with or without an error
            });
        })?;
        has_started.recv().map_err(io::Error::other)??;
        Ok(Self { world, address, _stop: stop })
    }

    /// Returns the address of the API.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the value for `nexudus.base_url`, such as `http://127.0.0.1:12345`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the state, which outlives the server.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world)
    }
}

impl Deref for Nexudus {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// A second handle of a request's connection, to cut it.
struct Connection(std::net::TcpStream);

fn server(listener: TcpListener, world: Arc<World>) -> io::Result<dev::Server> {
    let world = web::Data::from(world);
    let app = move || App::new().app_data(world.clone()).default_service(web::to(serve));
    // Without half-closed connections, actix-web drops a waiting request when its client closes the connection.
    let server = HttpServer::new(app).workers(1).disable_signals().h1_allow_half_closed(false);
    let server = server.on_connect(|io, extensions| {
        let stream = io.downcast_ref::<TcpStream>().and_then(|io| io.as_fd().try_clone_to_owned().ok());
        if let Some(stream) = stream {
            extensions.insert(Connection(stream.into()));
        }
    });
    Ok(server.listen(listener)?.run())
}

async fn serve(http: HttpRequest, body: web::Bytes, world: web::Data<World>) -> HttpResponse {
    if let Some(response) = world.lever(http.method().as_str(), http.path()) {
        return whole(response);
    }
    let request = request(&http, &body);
    let (number, fault) = world.receive(&request);
    let response = match &fault {
        Some(Fault::Late(delay, effect)) => {
            let early = (*effect == Effect::Done).then(|| world.answer(&request));
            sleep(*delay).await;
            early.unwrap_or_else(|| world.answer(&request))
        }
        Some(Fault::Gateway(status, effect)) => {
            apply(&world, &request, *effect);
            Response::html(*status)
        }
        Some(Fault::Cut(effect)) => {
            apply(&world, &request, *effect);
            cut(&http);
            return HttpResponse::InternalServerError().finish(); // the connection is closed
        }
        Some(fault) => fault.response().unwrap_or_else(|| world.answer(&request)),
        None => world.answer(&request),
    };
    world.lock().journal.set_status(number, response.status);
    if fault == Some(Fault::HalfBody) { half(http, response) } else { whole(response) }
}

/// Applies the effect of a request whose response is dropped.
fn apply(world: &web::Data<World>, request: &Request, effect: Effect) {
    match effect {
        Effect::Done => drop(world.answer(request)),
        Effect::NotDone => {}
        Effect::Later(delay) => {
            let (world, request) = (world.clone(), request.clone());
            actix_web::rt::spawn(async move {
                sleep(delay).await;
                world.answer(&request);
            });
        }
    }
}

fn request(http: &HttpRequest, body: &[u8]) -> Request {
    let headers = http.headers().iter();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Request {
        instant: Instant::now(),
        method: http.method().to_string(),
        path: http.path().to_owned(),
        query: http.query_string().to_owned(),
        headers: headers.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        body: text(body),
        status: None,
    }
}

fn head(response: &Response) -> HttpResponseBuilder {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = HttpResponse::build(status);
    if let Some(retry_after) = &response.retry_after {
        head.insert_header(("retry-after", retry_after.as_str()));
    }
    if !response.content_type.is_empty() {
        head.content_type(response.content_type);
    }
    head
}

fn whole(response: Response) -> HttpResponse {
    head(&response).body(response.body)
}

/// Sends the head and the first half of the body, and cuts the connection.
fn half(http: HttpRequest, response: Response) -> HttpResponse {
    let length = response.body.len();
    let first = Bytes::copy_from_slice(&response.body[..length / 2]);
    let chunks = stream::unfold((Some(first), http), |(first, http)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, http)));
        }
        sleep(HALF_BODY_TIME).await;
        cut(&http);
        Some((Err(io::Error::other("cut")), (None, http)))
    });
    head(&response).body(SizedStream::new(length as u64, Box::pin(chunks)))
}

fn cut(http: &HttpRequest) {
    if let Some(Connection(stream)) = http.conn_data::<Connection>() {
        stream.shutdown(Shutdown::Both).ok(); // an error means that the client has closed the connection
    }
}

impl World {
    /// Adds a request to the journal. Returns its number and its fault.
    fn receive(&self, request: &Request) -> (usize, Option<Fault>) {
        let mut state = self.lock();
        let selected =
            |(matching, fault): &mut (Matching, Fault)| matching.take(request).then(|| fault.clone());
        let fault = state.faults.iter_mut().find_map(selected);
        state.faults.retain(|(matching, _)| !matching.is_over());
        (state.journal.add(request.clone()), fault)
    }

    /// Applies the effect of a request and the reactions to it, and returns the response.
    fn answer(&self, request: &Request) -> Response {
        let mut state = self.lock();
        let mut response = api::answer(&mut state, request);
        if state.behaviour.byte_order_mark && response.content_type.starts_with("application/json") {
            response.body.splice(..0, BYTE_ORDER_MARK.iter().copied());
        }
        let selected =
            |(matching, act): &mut (Matching, Reaction)| matching.take(request).then(|| Arc::clone(act));
        let reactions: Vec<Reaction> = state.reactions.iter_mut().filter_map(selected).collect();
        state.reactions.retain(|(matching, _)| !matching.is_over());
        drop(state);
        reactions.iter().for_each(|act| act(self));
        response
    }

    /// Returns the response to a request for a lever or for the list of levers.
    fn lever(&self, method: &str, path: &str) -> Option<Response> {
        const PATH: &str = "/double";
        let name = path.strip_prefix(PATH)?.trim_matches('/');
        let levers = self.lock().levers.clone();
        let list: String = levers.iter().map(|(name, _)| format!("POST {PATH}/{name}\n")).collect();
        let list = format!("A double of Nexudus.\n{list}");
        Some(match levers.iter().find(|(known, _)| *known == name) {
            None => Response::text(if name.is_empty() { 200 } else { 404 }, list),
            Some(_) if method != "POST" => Response::text(405, list),
            Some((_, act)) => Response::text(200, format!("{}\n", act())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn only_a_post_to_its_path_pulls_a_lever() {
        let nexudus = Nexudus::start(Options::default()).unwrap();
        let pulls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&pulls);
        let act = move || format!("pulled {}", count.fetch_add(1, Ordering::Relaxed) + 1);
        nexudus.lock().levers.push(("kafka/stop", Arc::new(act)));
        let ask = |method: &str, path: &str| {
            let response = nexudus.lever(method, path)?;
            Some((response.status, String::from_utf8(response.body).unwrap()))
        };
        let list = "A double of Nexudus.\nPOST /double/kafka/stop\n".to_owned();
        assert_eq!(ask("GET", "/double"), Some((200, list.clone())));
        assert_eq!(ask("GET", "/double/kafka/stop"), Some((405, list.clone())));
        assert_eq!(ask("POST", "/double/kafka"), Some((404, list)));
        assert_eq!(ask("POST", "/api/sys/webhooks"), None);
        assert_eq!(pulls.load(Ordering::Relaxed), 0);
        assert_eq!(ask("POST", "/double/kafka/stop"), Some((200, "pulled 1\n".to_owned())));
    }
}
