//! The tests of the promises that the documentation makes, one file a promise; each test's name is its sentence.

mod admin;
mod browser;
mod cli;
mod connections;
mod console;
mod deadlines;
mod events;
mod faults;
mod hostile;
mod ingress;
mod lasting;
mod pressure;
mod quarantine;
mod redelivery;
mod reload;
mod rules;
mod security;
mod serve;
mod shutdown;
mod sign_in;
mod support;
mod tidy;
mod tls;
mod topics;
mod twice;
