//! The API: the response to a request, and its effect on the state.
//!
//! `/api/sys/webhooks` has search, get, create, update and delete. An update is a PUT on the collection with the `Id` in
//! its body. It clears the fields that the body lacks, ignores read-only fields, and keeps unknown fields as they were
//! sent. Unknown filters of lists are ignored without an error, as Nexudus does.

use std::time::Instant;

use nexudus_bridge::nexudus::record::{RawRecord, read_time};
use serde_json::json;
use serde_json::value::RawValue;

use crate::access::Account;
use crate::behaviour::Behaviour;
use crate::changes::{NO_ACTION, is_active};
use crate::message::{Request, Response};
use crate::record::{self, time_text};
use crate::state::State;

/// Returns the response to a request, after its effect.
pub(super) fn answer(state: &mut State, request: &Request) -> Response {
    if let Err(wait) = state.admitted.admit(&state.limits, request.is_write(), Instant::now()) {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        return Response::throttled(409, Some(seconds.to_string()));
    }
    let now = state.now();
    if request.is_token_request() {
        return state.accounts.answer(request, &state.behaviour, now);
    }
    let Some(account) = state.accounts.authenticate(request, now).cloned() else {
        return Response::empty(401);
    };
    let path = request.path.trim_end_matches('/').to_ascii_lowercase();
    if path == "/api/utils/enums" {
        return enum_values(state, request);
    }
    match path.strip_prefix("/api/sys/webhooks") {
        Some("") => webhooks(state, request, &account, None),
        Some(rest) if rest.starts_with('/') => webhooks(state, request, &account, Some(&rest[1..])),
        _ => entities(state, request, &account, &path),
    }
}

/// Returns the response for an unknown id.
fn missing(state: &State) -> Response {
    match state.behaviour.missing_status {
        404 => not_found(),
        _ => Response::server_error(),
    }
}

fn not_found() -> Response {
    Response::text(404, "Not found".to_owned())
}

/// Answers requests for lists and single records of all kinds but webhooks.
fn entities(state: &State, request: &Request, account: &Account, path: &str) -> Response {
    let (kind, id) = match (record::kind_at(path), path.rsplit_once('/')) {
        (Some(kind), _) => (kind, None),
        (None, Some((parent, id))) if let Some(kind) = record::kind_at(parent) => (kind, Some(id)),
        _ => return not_found(),
    };
    if request.method != "GET" {
        return Response::empty(405);
    }
    if !account.has_role(&format!("{kind}-{}", if id.is_some() { "Read" } else { "List" })) {
        return Response::empty(401);
    }
    let behaviour = &state.behaviour;
    let records = state.records.get(kind);
    let Some(id) = id else {
        let records = records.into_iter().flatten().map(|(_, located)| &located.record);
        let ids = request.parameter("id").and_then(|ids| serde_json::from_str::<Vec<i64>>(&ids).ok());
        if let Some(ids) = ids {
            let named = records.filter(|record| record.id().is_some_and(|id| ids.contains(&id)));
            let named: Vec<RawRecord> = named.map(|record| read(record, behaviour)).collect();
            return Response::json(200, serde_json::to_vec(&named).expect("records are JSON"));
        }
        let list = List { kind, request, behaviour };
        return list.page(records, |record| listed(record, behaviour));
    };
    match id.parse().ok().and_then(|id: i64| records?.get(&id)) {
        Some(located) => Response::json(200, read(&located.record, behaviour).to_json()),
        None => missing(state),
    }
}

/// Returns a record as the API returns it.
fn read(record: &RawRecord, behaviour: &Behaviour) -> RawRecord {
    let mut record = record.clone();
    if behaviour.times_to_the_second {
        for field in ["UpdatedOn", "CreatedOn"] {
            if let Some(time) = record.time(field) {
                record.set(field, format!("{time:.0}"));
            }
        }
    }
    record
}

/// Returns a record as lists have it: without arrays, objects, long texts and `UpdatedBy`. Nexudus does not document which
/// fields its lists lack.
fn listed(record: &RawRecord, behaviour: &Behaviour) -> RawRecord {
    /// Ends of the names of long texts.
    const LONG_TEXTS: [&str; 8] =
        ["Description", "Notes", "Body", "Text", "Message", "Introduction", "AboutUs", "ProfileSummary"];
    let mut shown = read(record, behaviour);
    if behaviour.partial_listings {
        for (field, value) in record.fields() {
            let is_long = value.starts_with('"')
                && field != "ToStringText"
                && LONG_TEXTS.iter().any(|end| field.ends_with(end));
            if value.starts_with(['[', '{']) || is_long || field == "UpdatedBy" {
                shown.set(field, ());
            }
        }
    }
    shown
}

/// A list of records, in the order of their ids.
struct List<'a> {
    kind: &'a str,
    request: &'a Request,
    behaviour: &'a Behaviour,
}

impl List<'_> {
    /// Returns the page of the query. `shown` returns a record as the list has it.
    fn page<'r>(
        &self,
        records: impl Iterator<Item = &'r RawRecord>,
        shown: impl Fn(&RawRecord) -> RawRecord,
    ) -> Response {
        let page = self.number("page").unwrap_or(1);
        if page > self.behaviour.last_page {
            return Response::html(403);
        }
        let size = self.number("size").unwrap_or(25).min(self.behaviour.largest_page);
        let since = self.since();
        let is_found = |record: &RawRecord| {
            since.is_none_or(|since| record.time("UpdatedOn").is_some_and(|time| time >= since))
        };
        let found: Vec<&RawRecord> = records.filter(|record| is_found(record)).collect();
        let (total, pages) = (found.len(), found.len().div_ceil(size));
        let first = (page - 1).saturating_mul(size);
        let records: Vec<RawRecord> = found.into_iter().skip(first).take(size).map(shown).collect();
        let records = serde_json::to_string(&records).expect("records are JSON");
        let (next, previous) = (page < pages, page > 1 && pages > 0);
        // Records keep their text, so `json!` cannot build this.
        let body = format!(
            r#"{{"Records":{records},"CurrentPage":{page},"CurrentPageSize":{size},"CurrentOrderField":"Id","CurrentSortDirection":1,"PageNumber":{page},"PageSize":{size},"TotalItems":{total},"TotalPages":{pages},"HasNextPage":{next},"HasPreviousPage":{previous}}}"#
        );
        Response::json(200, body)
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.request.parameter(name)?.parse().ok().filter(|number| *number > 0)
    }

    /// Returns the bound of the filter `from_{kind}_UpdatedOn`, if it works and is a time.
    fn since(&self) -> Option<jiff::Timestamp> {
        let value = self.request.parameter(&format!("from_{}_UpdatedOn", self.kind))?;
        let bound = read_time(&value)? - self.behaviour.range_zone;
        (self.kind == "WebHook" || self.behaviour.entity_ranges).then_some(bound)
    }
}

/// Answers `GET /api/utils/enums?name=eWebhookAction` with an array of names and numbers.
fn enum_values(state: &State, request: &Request) -> Response {
    if request.method != "GET" {
        return Response::empty(405);
    }
    if !request.parameter("name").is_some_and(|name| name.eq_ignore_ascii_case("eWebhookAction")) {
        return not_found();
    }
    let is_extra = |number: i64| state.behaviour.extra_actions.iter().any(|(extra, _)| *extra == number);
    let is_listed = |number: i64| !state.behaviour.legacy_enum || number <= 62 || is_extra(number);
    let values = state.actions().filter(|(number, _)| is_listed(*number));
    let values: Vec<_> = values.map(|(number, name)| json!({"Name": name, "Id": number})).collect();
    Response::json(200, json!(values).to_string())
}

/// Answers requests to the collection of webhooks, and to one of them.
fn webhooks(state: &mut State, request: &Request, account: &Account, id: Option<&str>) -> Response {
    let role = match (request.method.as_str(), id) {
        ("GET", None) => "WebHook-List",
        ("POST", None) => "WebHook-Create",
        ("PUT", None) => "WebHook-Edit",
        ("GET", Some(_)) => "WebHook-Read",
        ("DELETE", Some(_)) => "WebHook-Delete",
        _ => return Response::empty(405),
    };
    if !account.has_role(role) {
        return Response::empty(401);
    }
    let id = id.and_then(|id| id.parse::<i64>().ok()).unwrap_or_default();
    match role {
        "WebHook-List" => {
            let list = List { kind: "WebHook", request, behaviour: &state.behaviour };
            list.page(state.webhooks.values(), |webhook| {
                let mut webhook = webhook.clone();
                webhook.set("Description", ());
                webhook
            })
        }
        "WebHook-Create" => create(state, request, account),
        "WebHook-Edit" => update(state, request, account),
        "WebHook-Read" => match state.webhooks.get(&id) {
            Some(webhook) => Response::json(200, webhook.to_json()),
            None => missing(state),
        },
        _ => match state.webhooks.remove(&id) {
            Some(_) => Response::done("deleted", None, &time_text(state.now()), &account.email),
            None => missing(state),
        },
    }
}

fn create(state: &mut State, request: &Request, account: &Account) -> Response {
    let Ok(sent) = serde_json::from_str::<RawRecord>(&request.body) else { return Response::server_error() };
    if let Some(refusal) = refusal(state, &sent, &["BusinessId", "Name", "Action", "URL"]) {
        return refusal;
    }
    let (id, empty) = state.new_webhook(&account.email);
    let updated_on = empty.get::<String>("UpdatedOn").unwrap_or_default();
    state.webhooks.insert(id, overlaid(&empty, &sent));
    Response::done("created", Some(id), &updated_on, &account.email)
}

fn update(state: &mut State, request: &Request, account: &Account) -> Response {
    let Ok(sent) = serde_json::from_str::<RawRecord>(&request.body) else { return Response::server_error() };
    if let Some(refusal) = refusal(state, &sent, &["Id", "BusinessId", "Name", "URL"]) {
        return refusal;
    }
    let id = sent.id().unwrap_or_default();
    let Some(old) = state.webhooks.get(&id) else { return missing(state) };
    let mut webhook = overlaid(old, &sent);
    if !is_active(old) && is_active(&webhook) && state.behaviour.reenabling_resets_errors {
        webhook.set("ErrorCount", 0);
    }
    let now = time_text(state.now());
    webhook.set("UpdatedOn", &now);
    webhook.set("UpdatedBy", &account.email);
    state.webhooks.insert(id, webhook);
    Response::done("updated", Some(id), &now, &account.email)
}

/// Returns the refusal of a create or update: 400 for wrong fields, 200 with `WasSuccessful: false` for an unknown location.
fn refusal(state: &State, sent: &RawRecord, required: &[&'static str]) -> Option<Response> {
    let is_empty = |field: &str| matches!(sent.raw(field), None | Some("null" | "\"\""));
    let required = required.iter().filter(|field| is_empty(field));
    let mut mistakes: Vec<(&str, &str)> = required.map(|field| (*field, "is a required field")).collect();
    let action: Option<i64> = sent.get("Action");
    if !is_empty("Action") && !state.actions().any(|(number, _)| Some(number) == action) {
        mistakes.push(("Action", "is not valid"));
    }
    if !mistakes.is_empty() {
        return Some(Response::invalid(&mistakes));
    }
    let business_id = sent.integer("BusinessId").unwrap_or_default();
    let is_known = state.records.get("Business").is_some_and(|all| all.contains_key(&business_id));
    (!is_known).then(|| Response::refused("Business: not found"))
}

/// Returns the old webhook with the settable fields of the sent one. A settable field that was not sent is cleared.
fn overlaid(old: &RawRecord, sent: &RawRecord) -> RawRecord {
    /// Fields that a client cannot set.
    const READ_ONLY: &str = "BusinessName LastError ErrorCount LastTrigger Id UpdatedOn CreatedOn UniqueId UpdatedBy \
                             IsNew ToStringText";
    let mut new = old.clone();
    let fields = old.fields().chain(sent.fields()).map(|(field, _)| field);
    for field in fields.filter(|field| READ_ONLY.split(' ').all(|known| known != *field)) {
        match (sent.get::<&RawValue>(field), field) {
            (Some(value), _) => new.set(field, value),
            (None, "Active") => new.set(field, false),
            (None, "Action") => new.set(field, NO_ACTION),
            (None, _) => new.set(field, ()),
        }
    }
    new.set("ToStringText", sent.get::<&RawValue>("Name"));
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::request;
    use jiff::SignedDuration;
    use nexudus_bridge::action::catalogue::ENTRIES;

    #[test]
    fn an_update_clears_fields_that_were_not_sent_and_keeps_read_only_ones() {
        let [old, sent]: [RawRecord; 2] = [
            r#"{"Name":"a","Action":6,"Description":"d","Active":true,"ErrorCount":3,"Odd":0.0900,"Id":7,"ToStringText":"a"}"#,
            r#"{"Id":7,"Name":"b","ErrorCount":0,"New":1.50}"#,
        ]
        .map(|json| serde_json::from_str(json).unwrap());
        assert_eq!(
            overlaid(&old, &sent).to_json(),
            r#"{"Name":"b","Action":1,"Description":null,"Active":false,"ErrorCount":3,"Odd":null,"Id":7,"ToStringText":"b","New":1.50}"#
        );
    }

    #[test]
    fn every_listing_lacks_some_fields_and_keeps_those_that_identify_the_record() {
        for entry in &ENTRIES {
            let record = record::example(entry.entity).unwrap();
            let shown = listed(&record, &Behaviour::default());
            assert_ne!(shown.to_json(), record.to_json(), "{}", entry.name);
            for field in ["Id", "UpdatedOn", "CreatedOn", "UniqueId", "ToStringText"] {
                assert_eq!(shown.raw(field), record.raw(field), "{}", entry.name);
            }
            let whole = Behaviour { partial_listings: false, ..Behaviour::default() };
            assert_eq!(listed(&record, &whole).to_json(), record.to_json());
        }
    }

    /// Returns the ids on a page of 60 records, and the page.
    fn page(query: &str, behaviour: &Behaviour) -> (Vec<i64>, serde_json::Value) {
        let json = |id: i64| format!(r#"{{"UpdatedOn":"2026-03-02T10:{:02}:00.5Z","Id":{id}}}"#, id - 1);
        let records: Vec<RawRecord> = (1..=60).map(|id| serde_json::from_str(&json(id)).unwrap()).collect();
        let request = request("GET", "/", query);
        let list = List { kind: "Thing", request: &request, behaviour };
        let page: serde_json::Value =
            serde_json::from_slice(&list.page(records.iter(), RawRecord::clone).body).unwrap();
        let ids = page["Records"].as_array().unwrap().iter().map(|record| record["Id"].as_i64().unwrap());
        (ids.collect(), page)
    }

    #[test]
    fn pages_follow_each_other_until_there_is_no_next_one() {
        let behaviour = Behaviour::default();
        let (ids, first) = page("", &behaviour);
        assert_eq!(ids, (1..=25).collect::<Vec<_>>());
        assert_eq!((&first["TotalItems"], &first["TotalPages"]), (&60.into(), &3.into()));
        assert_eq!((&first["HasNextPage"], &first["HasPreviousPage"]), (&true.into(), &false.into()));
        let (ids, last) = page("page=3&size=25&orderBy=Id", &behaviour);
        assert_eq!((ids, &last["PageNumber"]), ((51..=60).collect::<Vec<_>>(), &3.into()));
        assert_eq!((&last["HasNextPage"], &last["HasPreviousPage"]), (&false.into(), &true.into()));
        assert_eq!(page("size=5000", &behaviour).1["PageSize"], 1000);
        let small = Behaviour { largest_page: 20, ..Behaviour::default() };
        assert_eq!(page("size=25&page=3", &small).0, (41..=60).collect::<Vec<_>>());
        assert_eq!(page("page=9", &behaviour).0, [0; 0]);
        assert_eq!(page("page=x&size=0", &behaviour).0.len(), 25);
    }

    #[test]
    fn a_range_includes_its_bound_and_can_be_in_another_zone_or_ignored() {
        let mut behaviour = Behaviour::default();
        let total = |bound: &str, behaviour: &Behaviour| {
            page(&format!("from_Thing_UpdatedOn=2026-03-02T{bound}"), behaviour).1["TotalItems"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(["10:50", "10:50:00.5Z", "10:50:01Z"].map(|bound| total(bound, &behaviour)), [10, 10, 9]);
        for unknown in
            ["from_Other_UpdatedOn=2030-01-01", "UpdatedSince=2030-01-01", "from_Thing_UpdatedOn=x"]
        {
            assert_eq!(page(unknown, &behaviour).1["TotalItems"], 60, "{unknown}");
        }
        behaviour.range_zone = SignedDuration::from_mins(10); // 10:50 in this zone is 10:40 in UTC
        assert_eq!(total("10:50", &behaviour), 20);
        behaviour.entity_ranges = false;
        assert_eq!(total("10:50", &behaviour), 60);
    }
}
