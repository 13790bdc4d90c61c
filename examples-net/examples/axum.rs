//! An axum service whose request and response bodies are pooled.
//!
//! [`Pooled`] is all it takes: an extractor that reserves the whole of a body before it reads any, and an answer that hands the memory
//! to axum as `Bytes` without a copy. A handler names it as its argument, and clients wait their turn by TCP's flow control while the
//! pool is empty.
//!
//! Sixty-four clients send bodies of up to 100 kB at once to a service that has 256 KiB for all of them.

use std::net::SocketAddr;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::Router;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use offheap::{DirectBytesMut, Pool, ReserveError};
use offheap_examples_net::{check, finish, pooled, Failure};
use tokio::net::{TcpListener, TcpStream};

/// A body in a pool's memory.
struct Pooled(DirectBytesMut);

impl<S> FromRequest<S> for Pooled
where
    S: Send + Sync,
    Pool: FromRef<S>,
{
    type Rejection = StatusCode;

    async fn from_request(request: Request, state: &S) -> Result<Self, StatusCode> {
        let mut body = request.into_body();
        let length = body
            .size_hint()
            .exact()
            .ok_or(StatusCode::LENGTH_REQUIRED)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let reserved = Pool::from_ref(state).reserve(length).await;
        let mut buffer = reserved.map_err(|error| match error {
            ReserveError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        })?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
            if let Ok(data) = frame.into_data() {
                let fits = buffer.try_put_slice(&data);
                fits.map_err(|_| StatusCode::BAD_REQUEST)?;
            }
        }
        Ok(Pooled(buffer))
    }
}

impl IntoResponse for Pooled {
    fn into_response(self) -> Response {
        Body::from(Bytes::from(self.0.freeze())).into_response()
    }
}

/// Answers with the bytes of the request, each of them inverted in place.
async fn invert(Pooled(mut body): Pooled) -> Pooled {
    body.iter_mut().for_each(|byte| *byte = !*byte);
    Pooled(body)
}

/// Sends a few bodies over one connection.
async fn call(address: SocketAddr, pool: Pool, client: u64) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    for round in 0..4 {
        let seed = client * 4 + round;
        let length = (seed as usize * 7919) % 100_000;
        let body = Full::new(pooled(&pool, seed, length).await?);
        let response = sender
            .send_request(Request::post("/invert").body(body)?)
            .await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the service answered {}", response.status()).into());
        }
        let body = response.into_body().collect().await?.to_bytes();
        check(seed, length, body.into_iter().map(|byte| !byte))?;
    }
    Ok(())
}

async fn refusal(address: SocketAddr, pool: &Pool) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let too_large = Full::new(Bytes::from(vec![0; pool.max_reserve() + 1]));
    let response = sender
        .send_request(Request::post("/invert").body(too_large)?)
        .await?;
    match response.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Ok(()),
        status => Err(format!("a body above the limit was answered by {status}").into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let pool = Pool::builder().name("service").limit(256 << 10).build()?;
    let requests = Pool::builder().name("clients").limit(1 << 20).build()?;
    let service = Router::new()
        .route("/invert", post(invert))
        .with_state(pool.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let clients: Vec<_> = (0..64)
        .map(|client| tokio::spawn(call(address, requests.clone(), client)))
        .collect();
    for client in clients {
        client.await??;
    }
    refusal(address, &pool).await?;
    serving.abort();
    finish(&requests).await?;
    finish(&pool).await
}

#[test]
fn runs() {
    main().unwrap();
}
