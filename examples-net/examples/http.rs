//! A hyper service whose request and response bodies are pooled.
//!
//! A request says how long its body is, so the service reserves all of it before it reads any: a service that reserved piece by piece
//! could wait for itself. While there is no room it does not read, and TCP's flow control holds the client back. The response body
//! is the same memory, frozen: hyper takes any `Buf`, and so a [`DirectBytes`], which it writes without a copy.
//!
//! Sixty-four clients send bodies of up to 100 kB at once to a service that has 256 KiB for all of them.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{client, server, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use offheap::{DirectBytes, Pool};
use offheap_examples_net::{check, finish, pooled, Failure};
use tokio::net::{TcpListener, TcpStream};

type Body = Full<DirectBytes>;

/// Answers with the bytes of the request, each of them inverted in place.
async fn invert(pool: Pool, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let Some(length) = request.body().size_hint().exact() else {
        return refuse(StatusCode::LENGTH_REQUIRED);
    };
    if length > pool.max_reserve() as u64 {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut buffer = pool.reserve(length as usize).await?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            buffer.try_put_slice(&data)?;
        }
    }
    buffer.iter_mut().for_each(|byte| *byte = !*byte);
    Ok(Response::new(Full::new(buffer.freeze())))
}

fn refuse(status: StatusCode) -> Result<Response<Body>, Failure> {
    let text = status.canonical_reason().unwrap_or("refused");
    let mut response = Response::new(Full::new(DirectBytes::from(text)));
    *response.status_mut() = status;
    Ok(response)
}

async fn serve(listener: TcpListener, pool: Pool) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        let pool = pool.clone();
        let service = service_fn(move |request| invert(pool.clone(), request));
        tokio::spawn(async move {
            let connection = server::conn::http1::Builder::new();
            if let Err(error) = connection
                .serve_connection(TokioIo::new(stream), service)
                .await
            {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}

/// Sends a few bodies over one connection.
async fn call(address: SocketAddr, pool: Pool, client: u64) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    for round in 0..4 {
        let seed = client * 4 + round;
        let length = (seed as usize * 7919) % 100_000;
        let request =
            Request::post("/invert").body(Full::new(pooled(&pool, seed, length).await?))?;
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the service answered {}", response.status()).into());
        }
        let body = response.into_body().collect().await?.to_bytes();
        check(seed, length, body.into_iter().map(|byte| !byte))?;
    }
    Ok(())
}

async fn refusals(address: SocketAddr, pool: &Pool) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let too_large = Bytes::from(vec![0; pool.max_reserve() + 1]);
    let request = Request::post("/invert").body(Full::new(too_large))?;
    let status = sender.send_request(request).await?.status();
    if status != StatusCode::PAYLOAD_TOO_LARGE {
        return Err(format!("a body above the limit was answered by {status}").into());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let pool = Pool::builder().name("service").limit(256 << 10).build()?;
    let requests = Pool::builder().name("clients").limit(1 << 20).build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = tokio::spawn(serve(listener, pool.clone()));
    let clients: Vec<_> = (0..64)
        .map(|client| tokio::spawn(call(address, requests.clone(), client)))
        .collect();
    for client in clients {
        client.await??;
    }
    refusals(address, &pool).await?;
    service.abort();
    finish(&requests).await?;
    finish(&pool).await
}

#[test]
fn runs() {
    main().unwrap();
}
