//! Serves metrics over HTTP, on an address of this machine alone.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle, time::timeout};

use super::metrics::{MEDIA_TYPE, Metrics};

/// How many may ask at once.
const MOST_CONNECTIONS: usize = 8;

/// How long a question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves metrics until it is dropped.
pub struct Exporter {
    /// Where.
    pub address: SocketAddr,
    /// Where it was asked to: the port may be 0.
    pub wanted: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Exporter {
    /// Begins to serve.
    ///
    /// # Errors
    ///
    /// The address is taken, or not this machine's.
    pub async fn start(wanted: SocketAddr, metrics: Metrics) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(wanted).await.with_context(|| {
            format!(
                "metrics can't be served on {wanted}; choose another address with --metrics, or \
                     'listen' of [metrics] in the rules file"
            )
        })?;
        Ok(Self {
            address: listener.local_addr()?,
            wanted,
            task: tokio::spawn(serve(listener, metrics)),
        })
    }
}

async fn serve(listener: TcpListener, metrics: Metrics) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("metrics can't be asked for: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &metrics);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match timeout(PATIENCE, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::debug!("metrics: {error}"),
                Err(_) => log::debug!("metrics: who asked was too slow"),
            }
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, header, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match metrics.page() {
            Ok(page) => (StatusCode::OK, (CONTENT_TYPE, MEDIA_TYPE), page),
            Err(error) => {
                log::warn!("no metrics: {error}");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "see the log\n")
            }
        },
        (&Method::GET | &Method::HEAD, _) => {
            plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n")
        }
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            (ALLOW, "GET, HEAD"),
            String::new(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let (name, value) = header;
    let value = hyper::header::HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
    response
}

fn plain(
    status: StatusCode,
    text: &str,
) -> (
    StatusCode,
    (hyper::header::HeaderName, &'static str),
    String,
) {
    let header = (CONTENT_TYPE, "text/plain; charset=utf-8");
    (status, header, text.to_owned())
}
