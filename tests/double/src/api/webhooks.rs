//! `/api/sys/webhooks`: search, get, create, update, delete.
//!
//! An update is a PUT on the collection with the `Id` in its body. What it leaves out is cleared; what the server keeps for
//! itself (`ErrorCount`, `LastError`, `LastTrigger`, …) it ignores; fields that nobody knows are kept as they were sent.

use super::{array, ids, missing, with_role};
use crate::list::Query;
use crate::manners::CreatedValue;
use crate::message::{Asked, Mistake, Reply};
use crate::record::{self, Record};
use crate::records::NONE;
use crate::state::State;
use crate::token::Account;

/// Fields that a client cannot set.
const READ_ONLY: [&str; 11] = [
    "BusinessName",
    "LastError",
    "ErrorCount",
    "LastTrigger",
    "Id",
    "UpdatedOn",
    "CreatedOn",
    "UniqueId",
    "UpdatedBy",
    "IsNew",
    "ToStringText",
];

/// Requests to the collection.
pub(super) fn collection(state: &mut State, asked: &Asked, account: &Account) -> Reply {
    match asked.method.as_str() {
        "GET" => with_role(account, "WebHook-List", || search(state, asked)),
        "POST" => with_role(account, "WebHook-Create", || create(state, asked, account)),
        "PUT" => with_role(account, "WebHook-Edit", || update(state, asked, account)),
        _ => Reply::empty(405),
    }
}

/// Requests to one webhook.
pub(super) fn single(state: &mut State, asked: &Asked, account: &Account, id: &str) -> Reply {
    let Ok(id) = id.parse::<i64>() else { return Reply::not_found() };
    match asked.method.as_str() {
        "GET" => with_role(account, "WebHook-Read", || match state.webhooks.get(&id) {
            Some(webhook) => Reply::json(webhook.to_json()),
            None => missing(state),
        }),
        "DELETE" => with_role(account, "WebHook-Delete", || delete(state, id, account)),
        _ => Reply::empty(405),
    }
}

fn search(state: &State, asked: &Asked) -> Reply {
    let pairs = asked.query_pairs();
    if let Some(ids) = ids(&pairs) {
        let wanted = state.webhooks.iter().filter(|(id, _)| ids.contains(id));
        return array(wanted.map(|(_, webhook)| webhook.to_json()));
    }
    let query = Query { entity: "WebHook", pairs: &pairs, manners: &state.manners, ranges: true };
    let listed = |webhook: &Record| {
        let mut webhook = webhook.clone();
        webhook.set("Description", "null");
        webhook
    };
    query.answer(state.webhooks.values(), listed)
}

fn create(state: &mut State, asked: &Asked, account: &Account) -> Reply {
    let Ok(mut sent) = Record::parse(&asked.body) else { return Reply::server_error() };
    if let Some(refusal) = refusal(state, &sent, &["BusinessId", "Name", "Action", "URL"]) {
        return refusal;
    }
    if sent.get("Active").is_none() {
        sent.set("Active", state.manners.active_by_default.to_string());
    }
    let empty = state.new_webhook(&account.email);
    let id = empty.id();
    let webhook = overlaid(&empty, &sent);
    let updated_on = webhook.text("UpdatedOn").unwrap_or_default();
    let value = match state.manners.created_value {
        CreatedValue::Id => format!(r#"{{"Id":{id}}}"#),
        CreatedValue::Record => String::from_utf8(webhook.to_json()).expect("records are text"),
    };
    state.webhooks.insert(id, webhook);
    Reply::done("WebHook was successfully created", &value, &updated_on, &account.email)
}

fn update(state: &mut State, asked: &Asked, account: &Account) -> Reply {
    let Ok(sent) = Record::parse(&asked.body) else { return Reply::server_error() };
    if let Some(refusal) = refusal(state, &sent, &["Id", "BusinessId", "Name", "URL"]) {
        return refusal;
    }
    let id = sent.id();
    let Some(old) = state.webhooks.get(&id) else { return missing(state) };
    let mut webhook = overlaid(old, &sent);
    let reenabled = !old.is_true("Active") && webhook.is_true("Active");
    if reenabled && state.manners.reenabling_resets_errors {
        webhook.set("ErrorCount", "0");
    }
    let now = record::time_text(state.clock.now());
    webhook.set_text("UpdatedOn", &now);
    webhook.set_text("UpdatedBy", &account.email);
    state.webhooks.insert(id, webhook);
    Reply::done("WebHook was successfully updated", &format!(r#"{{"Id":{id}}}"#), &now, &account.email)
}

fn delete(state: &mut State, id: i64, account: &Account) -> Reply {
    if state.webhooks.remove(&id).is_none() {
        return missing(state);
    }
    let now = record::time_text(state.clock.now());
    Reply::done("WebHook was successfully deleted", "null", &now, &account.email)
}

/// What speaks against a create or update: 400 for fields, 200 with `WasSuccessful: false` for a location that is not there.
fn refusal(state: &State, sent: &Record, required: &[&'static str]) -> Option<Reply> {
    let empty = |field: &str| matches!(sent.get(field), None | Some("null" | "\"\""));
    let mut mistakes: Vec<Mistake> = required
        .iter()
        .filter(|field| empty(field))
        .map(|field| Mistake { field, message: "is a required field" })
        .collect();
    let action = sent.number("Action");
    if !empty("Action") && !state.actions().any(|(number, _)| Some(number) == action) {
        mistakes.push(Mistake { field: "Action", message: "is not valid" });
    }
    if !mistakes.is_empty() {
        return Some(Reply::invalid(&mistakes));
    }
    let business_id = sent.number("BusinessId").unwrap_or_default();
    let known = state.records.get("Business").is_some_and(|all| all.contains_key(&business_id));
    (!known).then(|| Reply::refused("Business: not found"))
}

/// The old record with what was sent: each field that a client can set is as it was sent, or cleared.
fn overlaid(old: &Record, sent: &Record) -> Record {
    let mut new = old.clone();
    let settable = |field: &str| !READ_ONLY.contains(&field);
    for (field, _) in old.fields().filter(|(field, _)| settable(field)) {
        let cleared = match field {
            "Active" => "false".to_owned(),
            "Action" => NONE.to_string(),
            _ => "null".to_owned(),
        };
        new.set(field, sent.get(field).map_or(cleared, str::to_owned));
    }
    for (field, value) in sent.fields().filter(|(field, _)| settable(field) && old.get(field).is_none()) {
        new.set(field, value);
    }
    new.set("ToStringText", new.get("Name").unwrap_or("null").to_owned());
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_clears_what_it_leaves_out_and_keeps_what_is_the_servers() {
        let old = Record::parse(
            r#"{"Name":"a","Action":6,"Description":"d","Active":true,"ErrorCount":3,"Odd":0.0900,"Id":7,"ToStringText":"a"}"#,
        );
        let sent = Record::parse(r#"{"Id":7,"Name":"b","ErrorCount":0,"New":1.50}"#);
        assert_eq!(
            String::from_utf8(overlaid(&old.unwrap(), &sent.unwrap()).to_json()).unwrap(),
            r#"{"Name":"b","Action":1,"Description":null,"Active":false,"ErrorCount":3,"Odd":null,"Id":7,"ToStringText":"b","New":1.50}"#
        );
    }
}
