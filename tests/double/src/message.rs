//! A request as the API sees it, and an answer in one of the documented shapes.

use super::record::quoted;

/// A request, taken off its connection.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) reason: Option<&'static str>,
    pub(super) retry_after: Option<String>,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

/// A field that a create or update refuses, and why.
pub(super) struct Mistake {
    pub(super) field: &'static str,
    pub(super) message: &'static str,
}

const JSON: &str = "application/json; charset=utf-8";

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn query_pairs(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(self.query.as_bytes()).into_owned().collect()
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.method.as_str(), "POST" | "PUT" | "DELETE")
    }
}

impl Reply {
    pub(super) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self { content_type: JSON, body: body.into(), ..Self::empty(200) }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, reason: None, retry_after: None, content_type: "", body: Vec::new() }
    }

    pub(super) fn text(status: u16, body: String) -> Self {
        Self { content_type: "text/plain; charset=utf-8", body: body.into_bytes(), ..Self::empty(status) }
    }

    /// The same with a byte order mark before a body of JSON.
    pub(super) fn with_mark(mut self) -> Self {
        if self.content_type == JSON {
            self.body.splice(..0, *b"\xEF\xBB\xBF");
        }
        self
    }

    pub(super) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Also for a missing role.
    pub(super) fn unauthorized() -> Self {
        Self::empty(401)
    }

    pub(super) fn not_found() -> Self {
        Self { content_type: "text/plain", body: b"Not found".to_vec(), ..Self::empty(404) }
    }

    pub(super) fn server_error() -> Self {
        Self::json(r#"{"Message":"An error has occurred."}"#).with_status(500)
    }

    pub(super) fn html(status: u16) -> Self {
        let body = b"<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>".to_vec();
        Self { content_type: "text/html", body, ..Self::empty(status) }
    }

    /// Too fast: the status that this Nexudus has for it, and no body.
    pub(super) fn throttled(status: u16, retry_after: Option<String>) -> Self {
        Self {
            reason: Some("You must wait before accessing this url again."),
            retry_after,
            ..Self::empty(status)
        }
    }

    /// 400 for fields that are missing or wrong.
    pub(super) fn invalid(mistakes: &[Mistake]) -> Self {
        let said: Vec<String> =
            mistakes.iter().map(|mistake| format!("{}: {}", mistake.field, mistake.message)).collect();
        let errors: Vec<String> = mistakes
            .iter()
            .map(|Mistake { field, message }| {
                let (field, message) = (quoted(field), quoted(message));
                format!(r#"{{"AttemptedValue":null,"Message":{message},"PropertyName":{field}}}"#)
            })
            .collect();
        let message = quoted(&said.join(", "));
        let errors = errors.join(",");
        let body =
            format!(r#"{{"Message":{message},"Value":null,"Errors":[{errors}],"WasSuccessful":false}}"#);
        Self::json(body).with_status(400)
    }

    /// 200, and yet refused.
    pub(super) fn refused(message: &str) -> Self {
        let message = quoted(message);
        Self::json(format!(
            r#"{{"Status":500,"Message":{message},"Value":null,"Errors":[],"WasSuccessful":false}}"#
        ))
    }

    /// 200 for a create, update or delete that was done. `value` is JSON.
    pub(super) fn done(message: &str, value: &str, updated_on: &str, updated_by: &str) -> Self {
        let (message, updated_on, updated_by) = (quoted(message), quoted(updated_on), quoted(updated_by));
        Self::json(format!(
            r#"{{"Status":200,"Message":{message},"Value":{value},"OpenInDialog":false,"OpenInWindow":false,"RedirectURL":null,"JavaScript":null,"UpdatedOn":{updated_on},"UpdatedBy":{updated_by},"Errors":null,"WasSuccessful":true}}"#
        ))
    }

    /// An error of the token endpoint (RFC 6749, section 5.2).
    pub(super) fn oauth_error(status: u16, error: &str, description: &str) -> Self {
        let (error, description) = (quoted(error), quoted(description));
        Self::json(format!(r#"{{"error":{error},"error_description":{description}}}"#)).with_status(status)
    }
}
