//! The API: limits, who asks, and which part answers. Computing only, with the state in hand.

mod entities;
mod enums;
mod webhooks;

use std::time::Instant;

use super::limits::Client;
use super::message::{Asked, Reply};
use super::state::State;
use super::token::{self, Account};

/// Answers a request and lets it take effect.
pub(super) fn answer(state: &mut State, asked: &Asked) -> Reply {
    let client = match state.limits.client {
        Client::Anybody => "",
        Client::Authorization => asked.header("authorization").unwrap_or_default(),
    };
    if let Err(wait) = state.taken.admit(&state.limits, client, asked.is_write(), Instant::now()) {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        return Reply::throttled(state.limits.status, Some(seconds.to_string()));
    }
    let now = state.clock.now();
    if asked.path.eq_ignore_ascii_case(token::PATH) {
        return state.tokens.answer(asked, &state.manners, now);
    }
    let path = asked.path.trim_end_matches('/').to_ascii_lowercase();
    let is_enum = path == "/api/utils/enums";
    if is_enum && !state.manners.enums_need_token {
        return enums::answer(state, asked);
    }
    let Some(account) = state.tokens.who(asked, now).cloned() else { return Reply::unauthorized() };
    if is_enum {
        return enums::answer(state, asked);
    }
    match path.strip_prefix("/api/sys/webhooks") {
        Some("") => webhooks::collection(state, asked, &account),
        Some(rest) if rest.starts_with('/') => webhooks::single(state, asked, &account, &rest[1..]),
        _ => entities::answer(state, asked, &account, &path),
    }
}

/// Goes on if the account has the role, else answers 401.
fn with_role(account: &Account, role: &str, answer: impl FnOnce() -> Reply) -> Reply {
    if account.may(role) { answer() } else { Reply::unauthorized() }
}

/// The ids of `?id=[1,2,3]`; none if several records were not asked for.
fn ids(pairs: &[(String, String)]) -> Option<Vec<i64>> {
    let (_, list) = pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case("id"))?;
    serde_json::from_str(list).ok()
}

/// Records as a bare array.
fn array(records: impl Iterator<Item = Vec<u8>>) -> Reply {
    let records: Vec<Vec<u8>> = records.collect();
    Reply::json([b"[".as_slice(), &records.join(&b','), b"]"].concat())
}

/// The answer for an id that is not there, as this Nexudus gives it.
fn missing(state: &State) -> Reply {
    match state.manners.missing {
        super::manners::Missing::NotFound => Reply::not_found(),
        super::manners::Missing::Error => Reply::server_error(),
    }
}
