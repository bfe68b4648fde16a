//! The HTTP side: takes requests off their connections, spoils answers where a fault says so, and sends them.

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

use super::faults::{Effect, Fault};
use super::message::{Asked, Reply};
use super::state::World;

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
