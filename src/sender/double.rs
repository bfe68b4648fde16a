//! A stand-in for the bridge in the tests of the sender: the test chooses the answers.

use std::sync::atomic::{AtomicU32, Ordering};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

/// Starts a stand-in on a port of its own and returns its base address. `answer` gets the number of the request (from 1), its
/// head and its body. The stand-in runs until the end of the test's runtime.
pub(crate) async fn start<F>(answer: F) -> String
where
    F: Fn(u32, &HttpRequest, &[u8]) -> HttpResponse + Send + Sync + 'static,
{
    let state = web::Data::new((AtomicU32::new(0), answer));
    let respond = |state: web::Data<(AtomicU32, F)>, request: HttpRequest, body: web::Bytes| async move {
        let number = state.0.fetch_add(1, Ordering::SeqCst) + 1;
        state.1(number, &request, &body)
    };
    let server =
        HttpServer::new(move || App::new().app_data(state.clone()).default_service(web::to(respond)));
    let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("there are free ports");
    let address = server.addrs()[0];
    tokio::spawn(server.run());
    format!("http://{address}")
}
