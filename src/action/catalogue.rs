//! The catalogue: the 89 usable values of Nexudus's `eWebhookAction` (1, `None`, makes no webhook), as data.
//!
//! Names are the API's, byte for byte, irregular spellings included. Ids follow no rule and must not be computed. `entity` and `verb`
//! are this project's normal form. The labels are those of Nexudus's help centre and of its older documentation; empty if there is
//! none. [`Kind`] states whether byte-equal records are copies of one event. Source: Nexudus's API pages and help-centre articles on
//! webhooks.

use serde::{Serialize, Serializer};

use super::Kind::{self, Change, Signal};

/// One action of the catalogue.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The number in Nexudus's enum.
    pub id: u16,
    /// The API's name.
    pub name: &'static str,
    /// The kind of record that a delivery of this action carries.
    pub entity: &'static str,
    /// The verb of the action.
    pub verb: &'static str,
    /// Change or signal.
    pub kind: Kind,
    /// The label in the help centre; empty without one.
    #[serde(serialize_with = "text_or_null")]
    pub display: &'static str,
    /// The label in the older documentation; empty without one.
    #[serde(rename = "legacy_display", serialize_with = "text_or_null")]
    pub legacy: &'static str,
    /// The path of the records in Nexudus's API.
    pub api_path: &'static str,
}

fn text_or_null<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Some(text).filter(|text| !text.is_empty()).serialize(serializer)
}

impl Entry {
    /// Returns true if the record can be read over the API later: the action is about a new or changed record.
    pub fn is_readable(&self) -> bool {
        matches!(self.verb, "created" | "registered" | "updated")
    }
}

#[expect(clippy::too_many_arguments, reason = "a row of the table below, in the order of its columns")]
const fn entry(
    id: u16,
    name: &'static str,
    entity: &'static str,
    verb: &'static str,
    kind: Kind,
    display: &'static str,
    legacy: &'static str,
    api_path: &'static str,
) -> Entry {
    Entry { id, name, entity, verb, kind, display, legacy, api_path }
}

/// Every usable action, in the order of its id.
#[rustfmt::skip]
pub static ENTRIES: [Entry; 89] = [
    // id, name, entity, verb, kind, help-centre label, older label, API path
    entry(2, "CoworkerUpdate", "Coworker", "updated", Change, "Customer UPDATED", "Coworker Update", "/api/spaces/coworkers"),
    entry(3, "CoworkerCreate", "Coworker", "created", Change, "Customer CREATED", "Coworker Create", "/api/spaces/coworkers"),
    entry(4, "BlogPostCreate", "BlogPost", "created", Change, "Article CREATED", "BlogPost Create", "/api/content/blogposts"),
    entry(5, "BlogPostUpdate", "BlogPost", "updated", Change, "Article UPDATED", "BlogPost Update", "/api/content/blogposts"),
    entry(6, "BookingCreate", "Booking", "created", Change, "Booking CREATED", "Booking Create", "/api/spaces/bookings"),
    entry(7, "BookingUpdate", "Booking", "updated", Change, "Booking UPDATED", "Booking Update", "/api/spaces/bookings"),
    entry(8, "BookingDelete", "Booking", "deleted", Change, "Booking DELETED", "Booking Delete", "/api/spaces/bookings"),
    entry(9, "SendWelcomeEmail", "Coworker", "welcome_email_sent", Signal, "Customer Welcome Email sent", "Send Welcome Email", "/api/spaces/coworkers"),
    entry(10, "CoworkerContractActivate", "CoworkerContract", "activated", Change, "Contract ACTIVATED", "Coworker Contract Activate", "/api/billing/coworkercontracts"),
    entry(11, "CoworkerContractCancel", "CoworkerContract", "cancelled", Change, "Contract CANCELLED", "Coworker Contract Cancel", "/api/billing/coworkercontracts"),
    entry(12, "CoworkerContractRenew", "CoworkerContract", "renewed", Change, "Contract RENEWED", "Coworker Contract Renew", "/api/billing/coworkercontracts"),
    entry(13, "CoworkerContractUpgradeDowngrade", "CoworkerContract", "upgraded_downgraded", Change, "Contract Upgraded/Downgraded", "Coworker Contract Upgrade Downgrade", "/api/billing/coworkercontracts"),
    entry(14, "CoworkerContractActivateFirst", "CoworkerContract", "first_activated", Change, "Contract FIRST ACTIVATED", "Coworker Contract Activate First", "/api/billing/coworkercontracts"),
    entry(15, "CoworkerInvoiceCreateFirst", "CoworkerInvoice", "first_created", Change, "Invoice FIRST CREATED", "Coworker Invoice Create First", "/api/billing/coworkerinvoices"),
    entry(16, "CoworkerInvoiceCreate", "CoworkerInvoice", "created", Change, "Invoice CREATED", "Coworker Invoice Create", "/api/billing/coworkerinvoices"),
    entry(17, "CoworkerInvoiceDelete", "CoworkerInvoice", "deleted", Change, "Invoice DELETED", "Coworker Invoice Delete", "/api/billing/coworkerinvoices"),
    entry(18, "CoworkerInvoiceUpdate", "CoworkerInvoice", "updated", Change, "Invoice UPDATED", "Coworker Invoice Update", "/api/billing/coworkerinvoices"),
    entry(19, "CoworkerInvoiceRefund", "CoworkerInvoice", "refunded", Change, "Invoice CANCELLED/REFUNDED", "Coworker Invoice Refund", "/api/billing/coworkerinvoices"),
    entry(20, "CoworkerInvoiceCreditNote", "CoworkerInvoice", "credit_note_created", Change, "Credit Note CREATED", "Coworker Invoice Credit Note", "/api/billing/coworkerinvoices"),
    entry(21, "CoworkerInvoicePaid", "CoworkerInvoice", "paid", Change, "Invoice FULLY PAID", "Coworker Invoice Paid", "/api/billing/coworkerinvoices"),
    entry(22, "CoworkerInvoiceFailedPayment", "CoworkerInvoice", "payment_failed", Signal, "Invoice FAILED PAYMENT", "Coworker Invoice Failed Payment", "/api/billing/coworkerinvoices"),
    entry(23, "CoworkerInvoiceReceivedPayment", "CoworkerInvoice", "payment_received", Change, "Invoice RECEIVED PAYMENT", "Coworker Invoice Received Payment", "/api/billing/coworkerinvoices"),
    entry(24, "CoworkerInvoiceAwaitingPayment", "CoworkerInvoice", "awaiting_payment", Signal, "Invoice AWAITING PAYMENT", "Coworker Invoice Awaiting Payment", "/api/billing/coworkerinvoices"),
    entry(25, "CalendarEventCreate", "CalendarEvent", "created", Change, "Events: Created", "Calendar Event Create", "/api/content/calendarevents"),
    entry(26, "CalendarEventUpdate", "CalendarEvent", "updated", Change, "Event UPDATE", "Calendar Event Update", "/api/content/calendarevents"),
    entry(27, "CalendarEventAttendeeDelete", "EventAttendee", "deleted", Change, "Event Attendee DELETED", "Calendar Event Attendee Delete", "/api/content/eventattendees"),
    entry(28, "CalendarEventAttendeeCreate", "EventAttendee", "created", Change, "Event Attendee CREATED", "Calendar Event Attendee Create", "/api/content/eventattendees"),
    entry(29, "CalendarEventAttendeeUpdate", "EventAttendee", "updated", Change, "Event Attendee UPDATED", "Calendar Event Attendee Update", "/api/content/eventattendees"),
    entry(30, "GlobalChatMessageCreate", "GlobalChatMessage", "created", Change, "Chat Message CREATED", "Global Chat Message Create", "/api/support/globalchatmessages"),
    entry(31, "NewsLetterSubscriberCreate", "NewsLetterSubscriber", "created", Change, "Newsletter Subscriber CREATED", "NewsLetter Subscriber Create", "/api/content/newslettersubscribers"),
    entry(32, "NewsLetterSubscriberSubscribed", "NewsLetterSubscriber", "subscribed", Signal, "Newsletter Subscriber SUBSCRIBED", "NewsLetter Subscriber Subscribed", "/api/content/newslettersubscribers"),
    entry(33, "NewsLetterSubscriberUnSubscribed", "NewsLetterSubscriber", "unsubscribed", Signal, "Newsletter Subscriber UNSUBSCRIBED", "NewsLetter Subscriber UnSubscribed", "/api/content/newslettersubscribers"),
    entry(34, "NewsLetterSubscriberRemovedFromGroup", "NewsLetterSubscriber", "removed_from_group", Signal, "Newsletter Subscriber REMOVED FROM GROUP", "NewsLetter Subscriber Removed From Group", "/api/content/newslettersubscribers"),
    entry(35, "CoworkerCheckout", "Coworker", "checked_out", Signal, "Customer CHECKED OUT", "Coworker Checkout", "/api/spaces/coworkers"),
    entry(36, "CoworkerCheckin", "Coworker", "checked_in", Signal, "Customer CHECKED IN", "Coworker Checkin", "/api/spaces/coworkers"),
    entry(37, "CoworkerCheckinFailed", "Coworker", "checkin_failed", Signal, "Customer CHECK-IN FAILED", "Coworker Checkin Failed", "/api/spaces/coworkers"),
    entry(38, "VisitorNotification", "Visitor", "notified", Signal, "Visitor NOTIFIED", "Visitor Notification", "/api/spaces/visitors"),
    entry(39, "CommunityBoardNewThread", "CommunityThread", "created", Change, "Community Thread CREATED", "Community Board New Thread", "/api/community/communitythreads"),
    entry(40, "CommunityBoardNewReply", "CommunityMessage", "created", Change, "Community Message CREATED", "Community Board New Reply", "/api/community/communitymessages"),
    entry(41, "VisitorCheckedin", "Visitor", "checked_in", Change, "Visitor CHECKED IN", "Visitor Checked in", "/api/spaces/visitors"),
    entry(42, "VisitorRegistered", "Visitor", "registered", Change, "Visitor CREATED", "Visitor Registered", "/api/spaces/visitors"),
    entry(43, "BlogPostDelete", "BlogPost", "deleted", Change, "Article DELETED", "Blog Post Delete", "/api/content/blogposts"),
    entry(44, "CalendarEventDelete", "CalendarEvent", "deleted", Change, "Event DELETED", "Calendar Event Delete", "/api/content/calendarevents"),
    entry(45, "HelDeskMessageCreated", "HelpDeskMessage", "created", Change, "Help-desk Message CREATED", "HelDesk Message Created", "/api/support/helpdeskmessages"),
    entry(46, "HelpDeskCommentCreated", "HelpDeskComment", "created", Change, "Help-desk Reply CREATED", "HelpDesk Comment Created", "/api/support/helpdeskcomments"),
    entry(47, "CheckinCreated", "Checkin", "created", Change, "", "Checkin Created", "/api/spaces/checkins"),
    entry(48, "CheckinUpdated", "Checkin", "updated", Change, "Check-in UPDATED", "Checkin Updated", "/api/spaces/checkins"),
    entry(49, "CheckinDeleted", "Checkin", "deleted", Change, "Check-in DELETED", "Checkin Deleted", "/api/spaces/checkins"),
    entry(50, "CoworkerDelete", "Coworker", "deleted", Change, "Customer DELETED", "Coworker Delete", "/api/spaces/coworkers"),
    entry(51, "CoworkerMessageCreate", "CoworkerMessage", "created", Change, "Customer Message CREATED", "Coworker Message Create", "/api/spaces/coworkermessages"),
    entry(52, "DeliveryCreated", "CoworkerDelivery", "created", Change, "Delivery CREATED", "Delivery Created", "/api/spaces/coworkerdeliveries"),
    entry(53, "DeliveryAssigned", "CoworkerDelivery", "assigned", Change, "Delivery ASSIGNED to customer", "Delivery Assigned", "/api/spaces/coworkerdeliveries"),
    entry(54, "ProposalCreated", "Proposal", "created", Change, "Proposal CREATED", "Proposal Created", "/api/billing/proposals"),
    entry(55, "ProposalUpdated", "Proposal", "updated", Change, "Proposal UPDATED", "Proposal Updated", "/api/billing/proposals"),
    entry(56, "ProposalDeleted", "Proposal", "deleted", Change, "Proposal DELETED", "Proposal Deleted", "/api/billing/proposals"),
    entry(57, "TeamCreated", "Team", "created", Change, "Team CREATED", "Team Create", "/api/spaces/teams"),
    entry(58, "TeamUpdated", "Team", "updated", Change, "Team UPDATED", "Team Update", "/api/spaces/teams"),
    entry(59, "TeamDeleted", "Team", "deleted", Change, "Team DELETED", "Team Delete", "/api/spaces/teams"),
    entry(60, "CoworkerContractUpdate", "CoworkerContract", "updated", Change, "Contract UPDATED", "", "/api/billing/coworkercontracts"),
    entry(61, "AccessControlUpdate", "Coworker", "access_control_updated", Signal, "Access Control UPDATED", "", "/api/spaces/coworkers"),
    entry(62, "CoworkerContractCreate", "CoworkerContract", "created", Change, "Contract CREATED", "", "/api/billing/coworkercontracts"),
    entry(63, "FailedCheckin", "Checkin", "attempt_failed", Signal, "Check-in ATTEMPT FAILED", "", "/api/spaces/checkins"),
    entry(64, "VisitorDeleted", "Visitor", "deleted", Change, "Visitor DELETED", "", "/api/spaces/visitors"),
    entry(65, "CoworkerInvoiceLedgerEntryCreate", "CoworkerLedgerEntry", "created", Change, "", "", "/api/billing/coworkerledgerentries"),
    entry(66, "CoworkerInvoiceLedgerEntryDelete", "CoworkerLedgerEntry", "deleted", Change, "", "", "/api/billing/coworkerledgerentries"),
    entry(67, "CoworkerInvoiceLedgerEntryUpdate", "CoworkerLedgerEntry", "updated", Change, "", "", "/api/billing/coworkerledgerentries"),
    entry(68, "CoworkerProductCreate", "CoworkerProduct", "created", Change, "Customer Products: Created", "", "/api/billing/coworkerproducts"),
    entry(69, "CoworkerProductUpdate", "CoworkerProduct", "updated", Change, "Customer Products: Updated", "", "/api/billing/coworkerproducts"),
    entry(70, "CoworkerProductDelete", "CoworkerProduct", "deleted", Change, "Customer Products: Deleted", "", "/api/billing/coworkerproducts"),
    entry(71, "FloorPlanDeskCreate", "FloorPlanDesk", "created", Change, "Floor plan desks: Created", "", "/api/sys/floorplandesks"),
    entry(72, "FloorPlanDeskDelete", "FloorPlanDesk", "deleted", Change, "Floor plan desks: Deleted", "", "/api/sys/floorplandesks"),
    entry(73, "FloorPlanDeskUpdate", "FloorPlanDesk", "updated", Change, "Floor plan desks: Updated", "", "/api/sys/floorplandesks"),
    entry(74, "TariffCreate", "Tariff", "created", Change, "Plans: Created", "", "/api/billing/tariffs"),
    entry(75, "TariffDelete", "Tariff", "deleted", Change, "Plans: Deleted", "", "/api/billing/tariffs"),
    entry(76, "TariffUpdate", "Tariff", "updated", Change, "Plans: Updated", "", "/api/billing/tariffs"),
    entry(77, "CoworkerContractDelete", "CoworkerContract", "deleted", Change, "", "", "/api/billing/coworkercontracts"),
    entry(78, "FloorPlanCreate", "FloorPlan", "created", Change, "Floor plans: Created", "", "/api/sys/floorplans"),
    entry(79, "FloorPlanDelete", "FloorPlan", "deleted", Change, "Floor plans: Deleted", "", "/api/sys/floorplans"),
    entry(80, "FloorPlanUpdate", "FloorPlan", "updated", Change, "Floor plans: Updated", "", "/api/sys/floorplans"),
    entry(81, "ProductCreate", "Product", "created", Change, "Products: Created", "", "/api/billing/products"),
    entry(82, "ProductDelete", "Product", "deleted", Change, "Products: Deleted", "", "/api/billing/products"),
    entry(83, "ProductUpdate", "Product", "updated", Change, "Products: Updated", "", "/api/billing/products"),
    entry(84, "BusinessUpdate", "Business", "updated", Change, "Space: Updated", "", "/api/sys/businesses"),
    entry(85, "CommunityGroupCreate", "CommunityGroup", "created", Change, "", "", "/api/community/communitygroups"),
    entry(86, "CommunityGroupDelete", "CommunityGroup", "deleted", Change, "", "", "/api/community/communitygroups"),
    entry(87, "CommunityGroupUpdate", "CommunityGroup", "updated", Change, "", "", "/api/community/communitygroups"),
    entry(88, "CoworkerPaymentMethodCreate", "CoworkerPaymentMethod", "created", Change, "Payment methods: Created", "", "/api/billing/coworkerpaymentmethods"),
    entry(89, "CoworkerPaymentMethodDelete", "CoworkerPaymentMethod", "deleted", Change, "Payment methods: Deleted", "", "/api/billing/coworkerpaymentmethods"),
    entry(90, "CoworkerPaymentMethodUpdate", "CoworkerPaymentMethod", "updated", Change, "Payment methods: Updated", "", "/api/billing/coworkerpaymentmethods"),
];
