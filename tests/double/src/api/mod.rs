//! The API: limits, who asks, and which part answers. Computing only, with the state in hand.

mod webhooks;

use std::time::Instant;

use crate::kinds;
use crate::list::Query;
use crate::manners::{Client, EnumValues, Manners, Missing};
use crate::message::{Asked, Reply, TOKEN_PATH};
use crate::record::{self, Record, quoted};
use crate::state::State;
use crate::token::Account;

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
    if asked.path.eq_ignore_ascii_case(TOKEN_PATH) {
        return state.tokens.answer(asked, &state.manners, now);
    }
    let path = asked.path.trim_end_matches('/').to_ascii_lowercase();
    let is_enum = path == "/api/utils/enums";
    if is_enum && !state.manners.enums_need_token {
        return enum_values(state, asked);
    }
    let Some(account) = state.tokens.who(asked, now).cloned() else { return Reply::unauthorized() };
    if is_enum {
        return enum_values(state, asked);
    }
    match path.strip_prefix("/api/sys/webhooks") {
        Some("") => webhooks::collection(state, asked, &account),
        Some(rest) if rest.starts_with('/') => webhooks::single(state, asked, &account, &rest[1..]),
        _ => entities(state, asked, &account, &path),
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
        Missing::NotFound => Reply::not_found(),
        Missing::Error => Reply::server_error(),
    }
}

/// Text that listings leave out: fields whose names end so. What listings really leave null is not documented.
const LONG_TEXTS: [&str; 8] =
    ["Description", "Notes", "Body", "Text", "Message", "Introduction", "AboutUs", "ProfileSummary"];

/// Lists and single records of the catalogue's entities and of rooms.
fn entities(state: &State, asked: &Asked, account: &Account, path: &str) -> Reply {
    let (entity, id) = match (kinds::at(path), path.rsplit_once('/')) {
        (Some(entity), _) => (entity, None),
        (None, Some((parent, id))) if let Some(entity) = kinds::at(parent) => (entity, Some(id)),
        _ => return Reply::not_found(),
    };
    if asked.method != "GET" {
        return Reply::empty(405);
    }
    let records = || state.records.get(entity).into_iter().flatten();
    let manners = &state.manners;
    if let Some(id) = id {
        let found = || {
            let id: Option<i64> = id.parse().ok();
            let found = records().find(|(known, _)| Some(**known) == id);
            found.map_or_else(|| missing(state), |(_, it)| Reply::json(read(&it.record, manners).to_json()))
        };
        return with_role(account, &format!("{entity}-Read"), found);
    }
    with_role(account, &format!("{entity}-List"), || {
        let pairs = asked.query_pairs();
        if let Some(ids) = ids(&pairs) {
            let wanted = records().filter(|(id, _)| ids.contains(id));
            return array(wanted.map(|(_, it)| read(&it.record, manners).to_json()));
        }
        let query = Query { entity, pairs: &pairs, manners, ranges: manners.entity_ranges };
        query.answer(records().map(|(_, it)| &it.record), |record| listed(record, manners))
    })
}

/// A record as it is read over the API.
fn read(record: &Record, manners: &Manners) -> Record {
    let mut record = record.clone();
    if manners.times_to_the_second {
        for field in ["UpdatedOn", "CreatedOn"] {
            if let Some(time) = record.text(field).and_then(|text| record::parse_time(&text)) {
                record.set_text(field, &record::time_to_the_second(time));
            }
        }
    }
    record
}

/// A record as a listing has it: without lists, objects, long texts and who changed it.
fn listed(record: &Record, manners: &Manners) -> Record {
    let mut shown = read(record, manners);
    if manners.partial_listings {
        for (field, value) in record.fields() {
            let is_long = value.starts_with('"')
                && field != "ToStringText"
                && LONG_TEXTS.iter().any(|end| field.ends_with(end));
            if value.starts_with(['[', '{']) || is_long || field == "UpdatedBy" {
                shown.set(field, "null");
            }
        }
    }
    shown
}

/// The last value that the legacy documentation lists.
const LAST_OF_LEGACY: i64 = 62;

/// `GET /api/utils/enums?name=eWebhookAction`: a bare array of names and numbers.
fn enum_values(state: &State, asked: &Asked) -> Reply {
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

#[cfg(test)]
mod tests {
    use super::*;
    use nexudus_bridge::action::catalogue::ENTRIES;
    use nexudus_bridge::sender::payloads::payload;

    #[test]
    fn every_listing_leaves_something_out_and_keeps_what_tells_records_apart() {
        for entry in &ENTRIES {
            let record = Record::parse(payload(entry.name).unwrap()).unwrap();
            let shown = listed(&record, &Manners::default());
            assert_ne!(shown, record, "{}", entry.name);
            for field in ["Id", "UpdatedOn", "CreatedOn", "UniqueId", "ToStringText"] {
                assert_eq!(shown.get(field), record.get(field), "{}", entry.name);
            }
            let whole = Manners { partial_listings: false, ..Manners::default() };
            assert_eq!(listed(&record, &whole), record);
        }
    }
}
