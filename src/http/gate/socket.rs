//! A client's connection as the gate reads and writes it: plain, or through TLS.
//!
//! Whatever is begun and given up halfway loses nothing: what has come, and what is still to go,
//! is kept here. Of what is still to go TLS keeps [`HTTP_TLS_PART_LEN`] bytes and a record's frame,
//! and of what has come one record.

use crate::limits::HTTP_TLS_PART_LEN;
use bytes::BufMut;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, BufRead as _, ErrorKind, Read, Write};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

/// A client's connection.
pub(super) struct Socket {
    tcp: TcpStream,
    tls: Option<Box<ServerConnection>>,
}

/// One that speaks TLS.
pub(super) struct Secure<'s> {
    tcp: &'s TcpStream,
    tls: &'s mut ServerConnection,
}

impl Socket {
    /// A plain connection.
    pub(super) fn new(tcp: TcpStream) -> Socket {
        Socket { tcp, tls: None }
    }

    /// Speaks TLS from now on: nothing has been read or written yet.
    pub(super) fn begin_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        let mut tls = ServerConnection::new(config)?;
        tls.set_buffer_limit(Some(HTTP_TLS_PART_LEN));
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// The connection, if it speaks TLS.
    pub(super) fn secure(&mut self) -> Option<Secure<'_>> {
        self.tls.as_mut().map(|tls| Secure { tcp: &self.tcp, tls })
    }

    /// Whether what is sent reaches the client as it is: so it is as long as TLS has not begun.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Whether it speaks TLS, and the handshake is over.
    pub(super) fn is_met(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking())
    }

    /// Whether the client has shown a certificate, which was good then.
    pub(super) fn is_certified(&self) -> bool {
        let chain = self.tls.as_ref().and_then(|tls| tls.peer_certificates());
        chain.is_some_and(|chain| !chain.is_empty())
    }

    /// The first byte that lies ready, which stays there; `None` at the end.
    pub(super) async fn first(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let n = self.tcp.peek(&mut first).await?;
        Ok((n > 0).then_some(first[0]))
    }

    /// Reads as much as there is room for; 0 is the end that the client has made. Through TLS a
    /// connection that was cut off is an error.
    pub(super) async fn read_buf(&mut self, buf: &mut impl BufMut) -> io::Result<usize> {
        match self.secure() {
            None => self.tcp.read_buf(buf).await,
            Some(mut secure) => secure.read_buf(buf).await,
        }
    }

    /// Takes in what can be sent now; 0 when that is nothing.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.secure() {
            Some(mut secure) => secure.try_write(bytes),
            None if bytes.is_empty() => Ok(0),
            None => match self.tcp.try_write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
                n => n,
            },
        }
    }

    /// Whether something that was taken in is still to go.
    pub(super) fn is_behind(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Returns when it is worth trying to write again.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Returns when the client has ended the connection, or its side of it. What it has sent ahead
    /// hides its end.
    pub(super) async fn ended(&mut self) {
        let is_ended = match self.secure() {
            None => matches!(self.first().await, Ok(None) | Err(_)),
            Some(mut secure) => matches!(secure.fill().await, Ok(0) | Err(_)),
        };
        if !is_ended {
            std::future::pending().await
        }
    }

    /// Tells the client, if it can be told now, that nothing more comes.
    pub(super) fn part(&mut self) {
        if let Some(mut secure) = self.secure()
            && !secure.is_handshaking()
        {
            secure.tls.send_close_notify();
            // Whoever cannot be told finds out.
            let _ = secure.flush();
        }
    }

    /// Sends bytes, then ends our side of the connection.
    pub(super) async fn end_with(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes).await?;
        self.part();
        self.send(b"").await?;
        self.tcp.shutdown().await
    }

    /// Reads, below TLS, what nobody wants; 0 at the end.
    pub(super) async fn discard(&mut self, sink: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(sink).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = &bytes[self.try_write(bytes)?..];
        while !rest.is_empty() || self.is_behind() {
            self.writable().await?;
            rest = &rest[self.try_write(rest)?..];
        }
        Ok(())
    }
}

impl Secure<'_> {
    /// Whether the handshake has not come to its end.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Sends what there is to be sent, or as much as goes now; true when all has gone.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Raw(self.tcp)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits until something has come, and takes it in as it is; 0 when that is the end.
    /// Meanwhile it sends what there is to be sent.
    pub(super) async fn receive(&mut self) -> io::Result<usize> {
        loop {
            let interest = match self.flush()? {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            self.tcp.ready(interest).await?;
            match self.tls.read_tls(&mut Raw(self.tcp)) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes something of what has come.
    ///
    /// # Errors
    /// What has come is not what TLS permits. The client is told, if it can be told now.
    pub(super) fn digest(&mut self) -> Result<(), rustls::Error> {
        let digested = self.tls.process_new_packets();
        if digested.is_err() {
            // What went wrong says more than that it could not be told.
            let _ = self.flush();
        }
        digested.map(drop)
    }

    /// Waits for bytes of the client; returns how many lie ready. 0 is the end that it has made.
    async fn fill(&mut self) -> io::Result<usize> {
        loop {
            match self.tls.reader().fill_buf() {
                Ok(bytes) => return Ok(bytes.len()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            // Records without a byte in them must not keep everybody else waiting.
            tokio::task::coop::consume_budget().await;
            self.receive().await?;
            self.digest().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    async fn read_buf(&mut self, buf: &mut impl BufMut) -> io::Result<usize> {
        self.fill().await?;
        let mut reader = self.tls.reader();
        let bytes = reader.fill_buf()?;
        let n = bytes.len().min(buf.chunk_mut().len());
        buf.put_slice(&bytes[..n]);
        reader.consume(n);
        Ok(n)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut n = 0;
        while self.flush()? && n < bytes.len() {
            let part = &bytes[n..bytes.len().min(n + HTTP_TLS_PART_LEN)];
            match self.tls.writer().write(part)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                taken => n += taken,
            }
        }
        Ok(n)
    }
}

/// The bytes below TLS.
struct Raw<'s>(&'s TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
