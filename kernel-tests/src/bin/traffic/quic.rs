//! QUIC by quinn: one connection with one stream, from the end that sends.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result};
use kernel_tests::peer::QUIC_NAME;
use quinn::{
    ClientConfig, Connection, Endpoint, ServerConfig,
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};

use crate::{
    RECEIVED, SENT, connected_and_going, report, report_from_now_on, say, segments,
    settings::Settings, stay,
};

/// The mode `quic`.
pub fn run(settings: &Settings) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(transfer(settings))
}

async fn transfer(settings: &Settings) -> Result<()> {
    let certificate = CertificateDer::from(settings.bytes("certificate")?);
    let connection = match settings.listen()? {
        Some(address) => {
            let key = PrivatePkcs8KeyDer::from(settings.bytes("key")?);
            let config = ServerConfig::with_single_cert(vec![certificate], key.into())?;
            let endpoint = Endpoint::server(config, address)?;
            say(
                "started",
                &format!(",\"address\":\"{}\"", endpoint.local_addr()?),
            );
            let incoming = endpoint.accept().await.context("nobody connects")?;
            incoming.await.context("can't accept")?
        }
        None => {
            let connection = connect(certificate, settings.connect()?).await?;
            connected_and_going(settings)?;
            connection
        }
    };
    report_from_now_on(settings)?;
    if settings.sends() {
        send(&connection, settings).await
    } else {
        receive(&connection).await
    }
}

async fn connect(certificate: CertificateDer<'static>, address: SocketAddr) -> Result<Connection> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut endpoint = Endpoint::client((any, 0).into())?;
    endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
    let connecting = endpoint.connect(address, QUIC_NAME)?;
    connecting.await.context("can't connect")
}

async fn send(connection: &Connection, settings: &Settings) -> Result<()> {
    if settings.is_set("segments") {
        let connection = connection.clone();
        segments::count(Box::new(move || {
            let path = connection.stats().path;
            (path.sent_packets, path.lost_packets)
        }));
    }
    let mut stream = connection.open_uni().await.context("can't open a stream")?;
    let zeros = vec![0; settings.number("chunk", 65_536)?];
    let mut left: u64 = match settings.number("amount", 0)? {
        0 => u64::MAX,
        amount => amount,
    };
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        let written = stream.write(&zeros[..chunk]).await.context("send")? as u64;
        SENT.fetch_add(written, Ordering::SeqCst);
        left -= written;
    }
    stream.finish()?;
    stream.stopped().await?;
    report();
    say("done", "");
    stay();
}

async fn receive(connection: &Connection) -> Result<()> {
    let mut stream = connection.accept_uni().await.context("no stream")?;
    let mut buffer = vec![0; 262_144];
    while let Some(length) = stream.read(&mut buffer).await.context("receive")? {
        RECEIVED.fetch_add(length as u64, Ordering::SeqCst);
    }
    report();
    say("end", "");
    connection.closed().await;
    Ok(())
}
