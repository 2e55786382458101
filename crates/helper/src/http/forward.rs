//! Requests without encryption through an HTTP proxy: it gets the whole address in the request line (RFC 9112 §3.2.2).
//!
//! The library only knows tunnels, which proxies refuse to ports other than 443. So it believes that it speaks with the server, and the
//! first line is changed on its way.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ureq::{
    Agent, Error, Proxy,
    config::Config,
    http::{Uri, header},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{
            Buffers, ConnectionDetails, Connector, DefaultConnector, LazyBuffers, NextTimeout,
            Transport,
        },
    },
};

/// Sends each request to `proxy`, for servers that are reached without encryption. `config` names no proxy.
pub(super) fn agent(config: Config, proxy: &Proxy) -> Agent {
    let credentials = proxy.username().map(|user| {
        let password = proxy.password().unwrap_or_default();
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    });
    let connector = ToProxy {
        proxy: proxy.uri().clone(),
        credentials,
        connect: DefaultConnector::default(),
    };
    let resolver = OfProxy {
        proxy: proxy.uri().clone(),
        resolve: DefaultResolver::default(),
    };
    Agent::with_parts(config, connector, resolver)
}

/// Only the proxy has to find the server.
#[derive(Debug)]
struct OfProxy {
    proxy: Uri,
    resolve: DefaultResolver,
}

impl Resolver for OfProxy {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        self.resolve.resolve(&self.proxy, config, timeout)
    }
}

struct ToProxy {
    proxy: Uri,
    credentials: Option<String>,
    connect: DefaultConnector,
}

impl std::fmt::Debug for ToProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToProxy")
    }
}

impl Connector for ToProxy {
    type Out = Forwarded;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<()>,
    ) -> Result<Option<Forwarded>, Error> {
        let to_proxy = ConnectionDetails {
            uri: &self.proxy,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let Some(stream) = self.connect.connect(&to_proxy, chained)? else {
            return Ok(None);
        };
        // Without credentials.
        let authority = details.uri.authority().map_or("", |authority| {
            let text = authority.as_str();
            text.rsplit('@').next().unwrap_or(text)
        });
        let mut added = String::new();
        if let Some(credentials) = &self.credentials {
            added = format!("{}: Basic {credentials}\r\n", header::PROXY_AUTHORIZATION);
        }
        Ok(Some(Forwarded {
            stream,
            first: Some(First {
                server: format!("http://{authority}"),
                added,
                // Nothing is read before the head is sent.
                head: LazyBuffers::new(1, details.config.output_buffer_size()),
            }),
        }))
    }
}

/// A connection with the proxy that carries one request.
struct Forwarded {
    stream: Box<dyn Transport>,
    /// Until the request line is sent.
    first: Option<First>,
}

struct First {
    /// `http://host:port`
    server: String,
    /// Header lines for the proxy.
    added: String,
    head: LazyBuffers,
}

impl std::fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forwarded")
    }
}

impl Transport for Forwarded {
    fn buffers(&mut self) -> &mut dyn Buffers {
        match &mut self.first {
            Some(first) => &mut first.head,
            None => self.stream.buffers(),
        }
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let Some(mut first) = self.first.take() else {
            return self.stream.transmit_output(amount, timeout);
        };
        let head = &first.head.output()[..amount];
        let head = absolute(head, &first.server, &first.added)
            .ok_or_else(|| Error::Other("the request line is too long".into()))?;
        let mut rest = &head[..];
        while !rest.is_empty() {
            let output = self.stream.buffers().output();
            let (now, later) = rest.split_at(rest.len().min(output.len()));
            output[..now.len()].copy_from_slice(now);
            self.stream.transmit_output(now.len(), timeout)?;
            rest = later;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        // The next request has another line.
        false
    }
}

/// `GET /path HTTP/1.1` with the server before the path, and more header lines after it. `None`: the line is not whole.
fn absolute(head: &[u8], server: &str, added: &str) -> Option<Vec<u8>> {
    let path = head.iter().position(|byte| *byte == b' ')? + 1;
    let end = head.windows(2).position(|bytes| bytes == b"\r\n")? + 2;
    let parts = [
        &head[..path],
        server.as_bytes(),
        head.get(path..end)?,
        added.as_bytes(),
        &head[end..],
    ];
    Some(parts.concat())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n",
        "",
        Some("GET http://h:8/a?b HTTP/1.1\r\nhost: h\r\n\r\n")
    )]
    #[case(
        "PUT / HTTP/1.1\r\nhost: h\r\n\r\nBODY \r\n",
        "x: y\r\n",
        Some("PUT http://h:8/ HTTP/1.1\r\nx: y\r\nhost: h\r\n\r\nBODY \r\n")
    )]
    #[case("GET /a", "", None)]
    #[case("", "", None)]
    fn the_proxy_is_told_the_whole_address(
        #[case] head: &str,
        #[case] added: &str,
        #[case] sent: Option<&str>,
    ) {
        let found = absolute(head.as_bytes(), "http://h:8", added);
        assert_eq!(found.as_deref(), sent.map(str::as_bytes));
    }
}
