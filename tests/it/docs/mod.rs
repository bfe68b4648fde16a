//! The documentation: generated parts match the code, links lead somewhere, and examples work as written.

mod examples;
mod generated;
mod links;
mod page;
mod settings;
mod tables;
