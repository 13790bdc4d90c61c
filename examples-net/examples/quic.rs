//! QUIC with pooled payloads: `quinn` sends `Bytes` without a copy of its own, and a `DirectBytes` becomes one without a copy.
//!
//! QUIC keeps what it has sent until the peer has acknowledged it, so a sender's memory is bounded by its windows, not by what the
//! application does. With pooled payloads it is bounded by the pool: the next payload waits until an earlier one has been
//! acknowledged and dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use offheap::Pool;
use offheap_examples_net::{check, finish, pooled, Failure};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::RootCertStore;

const STREAMS: u64 = 64;

fn length(seed: u64) -> usize {
    (seed as usize * 7919) % 200_000
}

/// A server's settings, and the certificate that a client has to trust.
fn settings() -> Result<(ServerConfig, CertificateDer<'static>), Failure> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.key_pair.serialize_der()));
    let certificate = made.cert.der().clone();
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key)?;
    Ok((config, certificate))
}

/// Sends each payload on a stream of its own.
async fn send(connection: Connection, pool: Pool) -> Result<(), Failure> {
    for seed in 0..STREAMS {
        let payload = pooled(&pool, seed, length(seed)).await?;
        let mut stream = connection.open_uni().await?;
        tokio::spawn(async move {
            let sent = stream.write_chunk(Bytes::from(payload)).await;
            if sent.is_ok() {
                // Whoever drops a stream without finishing it resets it.
                let _ = stream.finish();
            }
            sent
        });
    }
    Ok(())
}

async fn serve(endpoint: Endpoint, pool: Pool) -> Result<(), Failure> {
    let incoming = endpoint.accept().await.ok_or("the endpoint is closed")?;
    let connection = incoming.await?;
    send(connection.clone(), pool).await?;
    connection.closed().await;
    Ok(())
}

async fn receive(address: SocketAddr, certificate: CertificateDer<'static>) -> Result<(), Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
    let connection = endpoint.connect(address, "localhost")?.await?;
    let mut unseen: Vec<u64> = (0..STREAMS).collect();
    while !unseen.is_empty() {
        let mut stream = connection.accept_uni().await?;
        let received = stream.read_to_end(1 << 20).await?;
        // Streams may arrive in any order; each is one of those that are still to come.
        let this = unseen
            .iter()
            .position(|&seed| check(seed, length(seed), received.iter().copied()).is_ok());
        unseen.swap_remove(this.ok_or("a payload that was not sent")?);
    }
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let pool = Pool::builder().name("server").limit(512 << 10).build()?;
    let (config, certificate) = settings()?;
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
    let address = endpoint.local_addr()?;
    let server = tokio::spawn(serve(endpoint, pool.clone()));
    receive(address, certificate).await?;
    server.await??;
    finish(&pool).await
}

#[test]
fn runs() {
    main().unwrap();
}
