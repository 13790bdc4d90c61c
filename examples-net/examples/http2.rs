//! HTTP/2 with pooled payloads: `h2` sends any `Buf`, and so `DirectBytes`, without a copy.
//!
//! A payload is sent as the peer's window opens: `split_to` takes from its front what may be sent, in O(1). Each part is a handle to the
//! same block, which goes back to the pool when the last of them has been written.
//!
//! The server answers each stream with a payload of the length that the request's path says; the client checks it.

use std::future::poll_fn;
use std::net::SocketAddr;

use h2::{client, server, SendStream};
use http::{Request, Response, StatusCode};
use offheap::{DirectBytes, Pool};
use offheap_examples_net::{check, finish, pooled, Failure};
use tokio::net::{TcpListener, TcpStream};

/// Sends it all, as fast as the peer takes it.
async fn send(
    stream: &mut SendStream<DirectBytes>,
    mut payload: DirectBytes,
) -> Result<(), Failure> {
    while !payload.is_empty() {
        stream.reserve_capacity(payload.len());
        let window = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let window = window.ok_or("the stream was reset")??;
        stream.send_data(payload.split_to(window.min(payload.len())), false)?;
    }
    stream.send_data(DirectBytes::new(), true)?;
    Ok(())
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: server::SendResponse<DirectBytes>,
    pool: Pool,
) -> Result<(), Failure> {
    let mut numbers = request.uri().path().trim_matches('/').split('/');
    let mut number = || numbers.next().ok_or("a number is missing");
    let (seed, length) = (number()?.parse()?, number()?.parse()?);
    let payload = pooled(&pool, seed, length).await?;
    let mut stream = respond.send_response(Response::new(()), false)?;
    send(&mut stream, payload).await
}

async fn connection(stream: TcpStream, pool: Pool) -> Result<(), Failure> {
    let mut connection = server::Builder::new()
        .handshake::<_, DirectBytes>(stream)
        .await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        let answer = answer(request, respond, pool.clone());
        tokio::spawn(async move {
            if let Err(error) = answer.await {
                eprintln!("a stream failed: {error}");
            }
        });
    }
    Ok(())
}

async fn serve(listener: TcpListener, pool: Pool) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(stream, pool.clone()));
    }
}

async fn call(
    requests: client::SendRequest<DirectBytes>,
    seed: u64,
    length: usize,
) -> Result<(), Failure> {
    let request = Request::get(format!("http://localhost/{seed}/{length}")).body(())?;
    let (response, _) = requests.ready().await?.send_request(request, true)?;
    let response = response.await?;
    if response.status() != StatusCode::OK {
        return Err(format!("the server answered {}", response.status()).into());
    }
    let mut body = response.into_body();
    let mut received = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        received.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    check(seed, length, received)
}

async fn client(address: SocketAddr) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (requests, connection) = client::Builder::new()
        .handshake::<_, DirectBytes>(stream)
        .await?;
    tokio::spawn(connection);
    let calls: Vec<_> = (0..200)
        .map(|seed| {
            tokio::spawn(call(
                requests.clone(),
                seed,
                (seed as usize * 7919) % 200_000,
            ))
        })
        .collect();
    for call in calls {
        call.await??;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let pool = Pool::builder().name("server").limit(512 << 10).build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(serve(listener, pool.clone()));
    client(address).await?;
    server.abort();
    finish(&pool).await
}

#[test]
fn runs() {
    main().unwrap();
}
