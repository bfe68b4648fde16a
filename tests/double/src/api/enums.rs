//! `GET /api/utils/enums?name=eWebhookAction`: a bare array of names and numbers.

use super::super::manners::EnumValues;
use super::super::message::{Asked, Reply};
use super::super::record::quoted;
use super::super::state::State;

/// The last value that the legacy documentation lists.
const LAST_OF_LEGACY: i64 = 62;

pub(super) fn answer(state: &State, asked: &Asked) -> Reply {
    let named = asked
        .query_pairs()
        .iter()
        .any(|(name, value)| name == "name" && value.eq_ignore_ascii_case("eWebhookAction"));
    if asked.method != "GET" {
        return Reply::empty(405);
    }
    if !named {
        return Reply::not_found();
    }
    let is_extra = |number: i64| state.manners.extra_actions.iter().any(|(extra, _)| *extra == number);
    let listed = |number: i64| match state.manners.enum_values {
        EnumValues::All => true,
        EnumValues::First62 => number <= LAST_OF_LEGACY || is_extra(number),
    };
    let values: Vec<String> = state
        .actions()
        .filter(|(number, _)| listed(*number))
        .map(|(number, name)| format!(r#"{{"Name":{},"Id":{number}}}"#, quoted(name)))
        .collect();
    Reply::json(format!("[{}]", values.join(",")))
}
