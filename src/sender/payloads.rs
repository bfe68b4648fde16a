//! Payloads: one invented delivery body per action, and how a body is written on the wire.
//!
//! The fixtures in `payloads/` are arrays of one record, pretty-printed for people. Nexudus sends compact JSON, so [`wire_body`]
//! removes the white space between tokens. It keeps the text of numbers and strings: Nexudus writes `0.09000`, and signs its escapes
//! as they are. For the same reason [`Template`] edits text. Its copies differ only in the record's `Id`.

use std::ops::Range;

use bytes::Bytes;

use crate::action::Action;

/// A fixture for each of these actions, by name.
macro_rules! fixtures {
    ($($action:ident),* $(,)?) => {
        &[$((stringify!($action), include_str!(concat!("payloads/", stringify!($action), ".json")))),*]
    };
}

/// Every fixture, in the order of the catalogue.
#[rustfmt::skip]
static FIXTURES: &[(&str, &str)] = fixtures![
    CoworkerUpdate, CoworkerCreate, BlogPostCreate,
    BlogPostUpdate, BookingCreate, BookingUpdate,
    BookingDelete, SendWelcomeEmail, CoworkerContractActivate,
    CoworkerContractCancel, CoworkerContractRenew, CoworkerContractUpgradeDowngrade,
    CoworkerContractActivateFirst, CoworkerInvoiceCreateFirst, CoworkerInvoiceCreate,
    CoworkerInvoiceDelete, CoworkerInvoiceUpdate, CoworkerInvoiceRefund,
    CoworkerInvoiceCreditNote, CoworkerInvoicePaid, CoworkerInvoiceFailedPayment,
    CoworkerInvoiceReceivedPayment, CoworkerInvoiceAwaitingPayment, CalendarEventCreate,
    CalendarEventUpdate, CalendarEventAttendeeDelete, CalendarEventAttendeeCreate,
    CalendarEventAttendeeUpdate, GlobalChatMessageCreate, NewsLetterSubscriberCreate,
    NewsLetterSubscriberSubscribed, NewsLetterSubscriberUnSubscribed, NewsLetterSubscriberRemovedFromGroup,
    CoworkerCheckout, CoworkerCheckin, CoworkerCheckinFailed,
    VisitorNotification, CommunityBoardNewThread, CommunityBoardNewReply,
    VisitorCheckedin, VisitorRegistered, BlogPostDelete,
    CalendarEventDelete, HelDeskMessageCreated, HelpDeskCommentCreated,
    CheckinCreated, CheckinUpdated, CheckinDeleted,
    CoworkerDelete, CoworkerMessageCreate, DeliveryCreated,
    DeliveryAssigned, ProposalCreated, ProposalUpdated,
    ProposalDeleted, TeamCreated, TeamUpdated,
    TeamDeleted, CoworkerContractUpdate, AccessControlUpdate,
    CoworkerContractCreate, FailedCheckin, VisitorDeleted,
    CoworkerInvoiceLedgerEntryCreate, CoworkerInvoiceLedgerEntryDelete, CoworkerInvoiceLedgerEntryUpdate,
    CoworkerProductCreate, CoworkerProductUpdate, CoworkerProductDelete,
    FloorPlanDeskCreate, FloorPlanDeskDelete, FloorPlanDeskUpdate,
    TariffCreate, TariffDelete, TariffUpdate,
    CoworkerContractDelete, FloorPlanCreate, FloorPlanDelete,
    FloorPlanUpdate, ProductCreate, ProductDelete,
    ProductUpdate, BusinessUpdate, CommunityGroupCreate,
    CommunityGroupDelete, CommunityGroupUpdate, CoworkerPaymentMethodCreate,
    CoworkerPaymentMethodDelete, CoworkerPaymentMethodUpdate,
];

/// The fixture of an action, pretty-printed, by name in any case or by number. `None` for an action outside the catalogue.
pub fn payload(action: &str) -> Option<&'static str> {
    let name = Action::known(action)?.name;
    FIXTURES.iter().find(|(known, _)| *known == name).map(|(_, fixture)| *fixture)
}

/// Returns JSON text as Nexudus sends it: without the white space between tokens and around them, all else byte for byte.
pub fn wire_body(fixture: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(fixture.len());
    for token in Tokens::of(fixture.as_bytes()) {
        body.extend_from_slice(&fixture.as_bytes()[token]);
    }
    body
}

/// A body to make numbered copies of.
#[derive(Debug, Clone)]
pub struct Template {
    body: Bytes,
    /// Offsets and values of the `Id`s of the records.
    ids: Vec<(Range<usize>, u64)>,
}

impl Template {
    /// Finds the `Id` of each record: of the objects in an array, or of one object without an array. If there is no numeric `Id`, or no
    /// JSON, all copies are the same.
    pub fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let ids = find_ids(&body);
        Self { body, ids }
    }

    /// Returns copy number `n`: each `Id` is larger by `n`, all else is the same byte for byte. Copy 0 is the body itself.
    pub fn copy(&self, n: u64) -> Bytes {
        if n == 0 || self.ids.is_empty() {
            return self.body.clone();
        }
        let mut copy = Vec::with_capacity(self.body.len() + self.ids.len());
        let mut rest = 0;
        for (range, id) in &self.ids {
            copy.extend_from_slice(&self.body[rest..range.start]);
            copy.extend_from_slice(id.wrapping_add(n).to_string().as_bytes());
            rest = range.end;
        }
        copy.extend_from_slice(&self.body[rest..]);
        copy.into()
    }
}

/// Returns the numeric `Id` of each record, with its range.
fn find_ids(body: &[u8]) -> Vec<(Range<usize>, u64)> {
    let mut ids = Vec::new();
    let mut depth = 0;
    let mut record_depth = None; // depth of the first object: 2 in an array, else 1
    let mut last = [0..0, 0..0]; // the two tokens before this one
    for token in Tokens::of(body) {
        let text = &body[token.clone()];
        match text {
            b"{" | b"[" => {
                depth += 1;
                if text == b"{" && depth <= 2 {
                    record_depth.get_or_insert(depth);
                }
            }
            b"}" | b"]" => depth -= 1,
            _ if record_depth == Some(depth)
                && &body[last[0].clone()] == b"\"Id\""
                && &body[last[1].clone()] == b":" =>
            {
                let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                ids.extend(number.map(|number| (token.clone(), number)));
            }
            _ => {}
        }
        last = [last[1].clone(), token];
    }
    ids
}

/// Iterates over the ranges of JSON tokens: strings with their quotes, single marks, and runs of other characters (numbers, words).
/// Does not check that the text is JSON. In any text, the tokens are everything but the white space.
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the offset after the string that begins at `start`.
    fn end_of_string(&self, start: usize) -> usize {
        let mut escaped = false;
        let closes = |byte: &u8| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        };
        let inside = &self.text[start + 1..];
        inside.iter().position(closes).map_or(self.text.len(), |length| start + 1 + length + 1)
    }
}

impl Iterator for Tokens<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let single = |byte: &u8| b"{}[]:,\"".contains(byte);
        let start = self.at + self.text[self.at..].iter().position(|byte| !blank(byte))?;
        self.at = match &self.text[start] {
            b'"' => self.end_of_string(start),
            mark if single(mark) => start + 1,
            _ => {
                let run = self.text[start..].iter().position(|byte| blank(byte) || single(byte));
                run.map_or(self.text.len(), |length| start + length)
            }
        };
        Some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::action::catalogue::ENTRIES;

    #[test]
    fn every_action_of_the_catalogue_has_a_fixture_found_by_name_in_any_case_and_by_number() {
        let names: Vec<&str> = FIXTURES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ENTRIES.iter().map(|entry| entry.name).collect::<Vec<_>>());
        assert_eq!(payload("bookingcreate"), payload("6"));
        assert!(payload("BookingCreate").unwrap().contains("ResourceName"));
        assert_eq!(payload("SomethingNew"), None);
    }

    #[test]
    fn a_wire_body_says_the_same_as_its_fixture_in_the_same_text_without_white_space() {
        for (name, fixture) in FIXTURES {
            let body = String::from_utf8(wire_body(fixture)).unwrap();
            let meaning = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(meaning(&body), meaning(fixture), "{name}");
            assert_eq!(wire_body(&body), body.as_bytes(), "{name}: compact");
            assert!(!body.contains('\n'), "{name}");
            // Strings and numbers keep their text: every field of the record is the same slice in both.
            let fields = |text: &'_ str| -> Vec<String> {
                let records: Vec<std::collections::BTreeMap<&str, &RawValue>> =
                    serde_json::from_str(text).unwrap();
                let [record] = records.as_slice() else { panic!("{name}: one record") };
                let flat = record.iter().filter(|(_, raw)| !raw.get().starts_with(['{', '[']));
                flat.map(|(key, raw)| format!("{key}={raw}")).collect()
            };
            assert_eq!(fields(&body), fields(fixture), "{name}");
        }
    }

    #[test]
    fn the_times_of_one_record_are_in_order_over_its_samples() {
        let mut records = std::collections::BTreeMap::<u64, Vec<(&str, String, jiff::Timestamp)>>::new();
        for entry in &ENTRIES {
            let records_of = serde_json::from_str::<serde_json::Value>(payload(entry.name).unwrap()).unwrap();
            let record = &records_of[0];
            let created = record["CreatedOn"].as_str().unwrap()[..19].to_owned(); // a save has digits that a database lacks
            let updated = record["UpdatedOn"].as_str().unwrap().parse().unwrap();
            let times = records.entry(record["Id"].as_u64().unwrap()).or_default();
            times.push((entry.verb, created, updated));
            let past =
                |field: &str| field.ends_with("On") || ["SaleDate", "TransactionDate"].contains(&field);
            for (field, value) in record.as_object().unwrap().iter().filter(|(field, _)| past(field)) {
                let time: Option<jiff::Timestamp> = value.as_str().map(|time| time.parse().unwrap());
                let is_late = entry.verb == "deleted" && time.is_some_and(|time| time > updated);
                assert!(!is_late, "{}: {field} is after the deletion", entry.name);
            }
        }
        for (id, samples) in records {
            assert!(samples.iter().all(|(_, created, _)| *created == samples[0].1), "{id}: {samples:?}");
            let at = |verbs: &[&str]| {
                let of = samples.iter().filter(|(verb, _, _)| verbs.contains(verb));
                of.map(|(_, _, updated)| *updated).max()
            };
            let order = [at(&["created", "registered"]), at(&["updated"]), at(&["deleted"])];
            assert!(order.into_iter().flatten().is_sorted_by(|a, b| a < b), "{id}: {order:?}");
        }
    }

    #[test]
    fn white_space_goes_between_tokens_only() {
        for (text, wire) in [
            ("[ { \"a b\" : 1.50 , \"c\" : [ null , true ] } ]\r\n", "[{\"a b\":1.50,\"c\":[null,true]}]"),
            (r#"{"a": "x\" : , y", "b": "\\" }"#, r#"{"a":"x\" : , y","b":"\\"}"#),
            ("  [\t]\n", "[]"),
            ("", ""),
            ("\"open  ", "\"open  "),
            ("not json", "notjson"),
        ] {
            assert_eq!(String::from_utf8(wire_body(text)).unwrap(), wire);
        }
    }

    #[test]
    fn copies_differ_in_the_id_of_each_record_and_in_nothing_else() {
        for (body, copy) in [
            (r#"[{"Id":7,"X":{"Id":1},"Y":"Id"}]"#, r#"[{"Id":12,"X":{"Id":1},"Y":"Id"}]"#),
            (r#"[{"Y":[{"Id":1}],"Id":98},{"Id":99}]"#, r#"[{"Y":[{"Id":1}],"Id":103},{"Id":104}]"#),
            (r#"{"Z":"\"Id\":1","Id" : 7 }"#, r#"{"Z":"\"Id\":1","Id" : 12 }"#),
            (r#"[{"Id":"7"}]"#, r#"[{"Id":"7"}]"#),
            (r#"[{"Id":null,"UniqueId":1}]"#, r#"[{"Id":null,"UniqueId":1}]"#),
            (r#"[[{"Id":7}]]"#, r#"[[{"Id":7}]]"#),
            ("]]}not json{\"Id\":", "]]}not json{\"Id\":"),
            ("", ""),
        ] {
            let template = Template::new(body);
            assert_eq!(template.copy(5), copy);
            assert_eq!(template.copy(0), body);
        }
    }

    #[test]
    fn every_fixture_can_be_copied() {
        for (name, fixture) in FIXTURES {
            let template = Template::new(wire_body(fixture));
            assert_eq!(template.ids.len(), 1, "{name}");
            let id = |body: &[u8]| {
                serde_json::from_slice::<serde_json::Value>(body).unwrap()[0]["Id"].as_u64().unwrap()
            };
            assert_eq!(id(&template.copy(1000)), id(&template.copy(0)) + 1000, "{name}");
        }
    }
}
