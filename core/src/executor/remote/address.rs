//! Where a server is: what of a URL is taken, and what is refused with advice.

use hyper::header::HeaderValue;
use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// A server, and who asks it.
#[derive(Clone)]
pub struct Address {
    /// As it is shown in errors, and put before each path.
    base: String,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs.
        f.debug_struct("Address").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Address {
    /// Checks `url` and `token`.
    ///
    /// # Errors
    /// `Unsupported` for https; `InvalidInput` for what is no plain URL of a server, or no token.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self> {
        let parsed = Url::parse(url).map_err(|error| {
            Error::invalid("the URL of a server looks like http://127.0.0.1:8080").with("url", url).caused_by(error)
        })?;
        match parsed.scheme() {
            "http" => {}
            "https" => {
                let message =
                    "https is not spoken here; let a proxy on this host, or `ssh -L`, carry plain http to the server";
                return Err(Error::new(ErrorKind::Unsupported, message).with("host", parsed.host_str().unwrap_or("")));
            }
            other => return Err(Error::invalid("the URL of a server begins with http://").with("scheme", other)),
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            // Not shown: it holds a password.
            return Err(Error::invalid("the URL of a server names no user; give a token instead"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() || parsed.host_str().is_none() {
            return Err(Error::invalid("the URL of a server has a host, and no ? or #").with("url", url));
        }
        let authorization = token.map(bearer).transpose()?;
        Ok(Self { base: parsed.as_str().trim_end_matches('/').to_owned(), authorization })
    }

    /// The URL, without what follows the host in calls.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What each request carries.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| plain);
    let mut value = value.ok_or_else(|| Error::invalid("a token is plain ASCII text without spaces"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mistyped URL must say what is wrong with it, and neither a password nor a token may reach a log.
    #[test]
    fn only_plain_servers_are_taken() {
        for (url, kind) in [
            ("", ErrorKind::InvalidInput),
            ("127.0.0.1:8080", ErrorKind::InvalidInput),
            ("ftp://host", ErrorKind::InvalidInput),
            ("http://", ErrorKind::InvalidInput),
            ("http://user:secret@host", ErrorKind::InvalidInput),
            ("http://host/?a=1", ErrorKind::InvalidInput),
            ("http://host/#a", ErrorKind::InvalidInput),
            ("https://host", ErrorKind::Unsupported),
        ] {
            let error = Address::new(url, None).expect_err(url);
            assert_eq!(error.kind(), kind, "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for token in ["", "two words", "line\nbreak", "ü"] {
            let error = Address::new("http://host", Some(token)).expect_err(token);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let address = Address::new("http://host:80/below/", Some("secret")).expect("plain");
        assert_eq!(address.base(), "http://host/below");
        assert!(!format!("{address:?} {:?}", address.authorization()).contains("secret"));
    }
}
