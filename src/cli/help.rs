//! The description of the command line, from which the help, completion scripts and man pages are made.

use std::fs::create_dir_all;
use std::path::Path;

use anyhow::Context as _;
use clap::builder::StyledStr;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::output::{Exit, Output, styled};

/// The groups of commands in the help.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Run", &["serve", "config", "health"]),
    ("Try", &["dev", "demo", "send", "sample"]),
    ("Look", &["tail", "actions", "schema", "asyncapi"]),
    ("Nexudus", &["webhooks", "catch-up"]),
    ("Kafka", &["topics", "quarantine"]),
    ("Other", &["sign", "verify", "completions", "man", "help"]),
];

/// Examples, one a line. Each begins with the command that it belongs to. Those of `catch-up` are beside its options.
const EXAMPLES: &str = include_str!("help/examples.txt");

const SERVE: &str = include_str!("help/serve.txt");

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 with --detailed-exitcode: differences found";

/// Returns the command line with its help. Parsing, completion scripts, man pages and `docs/cli.md` use it.
pub fn command() -> Command {
    let command = Cli::command();
    let template = template(&command);
    with_examples(command, "").help_template(template).after_help(EXIT_CODES)
}

/// Adds examples to the help of a command, or to those of its subcommands.
fn with_examples(command: Command, parent: &str) -> Command {
    let path = format!("{parent}{} ", command.get_name());
    if command.has_subcommands() {
        return command.mut_subcommands(|command| with_examples(command, &path));
    }
    let examples = EXAMPLES.lines().map(|line| format!("nexudus-bridge {line}"));
    let examples = examples.filter(|example| format!("{example} ").starts_with(&path));
    let examples: String = examples.map(|example| format!("\n  {example}")).collect();
    if examples.is_empty() {
        return command;
    }
    let help = format!("Examples:{examples}");
    let long = if command.get_name() == "serve" { format!("{SERVE}\n\n{help}") } else { help.clone() };
    command.after_help(help).after_long_help(long)
}

/// Prints a script that completes commands and options in a shell.
pub(super) fn print_completions(shell: Shell, out: &mut Output) -> anyhow::Result<Exit> {
    let mut command = command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new(); // the generator panics if it cannot write
    clap_complete::generate(shell, &mut command, &name, &mut script);
    let mut script = String::from_utf8(script)?;
    // clap_complete 4.6 writes the state of `nexudus-bridge` as `nexudus__bridge`, but as `nexudus__subcmd__bridge` in the
    // states of its commands, so bash never reaches them. In a version without this fault nothing is replaced.
    if shell == Shell::Bash {
        script = script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    }
    out.bytes(script.as_bytes());
    Ok(Exit::Done)
}

/// Writes `nexudus-bridge.1` and a page for each command.
pub(super) fn write_man_pages(folder: &Path) -> anyhow::Result<Exit> {
    let written = create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command(), folder));
    written.with_context(|| format!("cannot write man pages into {}", folder.display()))?;
    Ok(Exit::Done)
}

/// Returns the template of the program's help, with the commands in groups.
fn template(command: &Command) -> StyledStr {
    let styles = command.get_styles();
    let (header, literal) = (*styles.get_header(), *styles.get_literal());
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (heading, names) in GROUPS {
        text.push_str(&format!("\n{}\n", styled(header, format!("{heading}:"))));
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            let about = about.unwrap_or_else(|| "Print this help, or the help of a command".to_owned());
            text.push_str(&format!("  {}  {about}\n", styled(literal, format!("{name:11}"))));
        }
    }
    text.push_str(&format!("\n{}\n{{options}}{{after-help}}", styled(header, "Options:")));
    text.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser as _;

    use super::*;

    /// Collects the commands without subcommands, by their path.
    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path}{}", sub.get_name());
            match sub.has_subcommands() {
                true => leaves(sub, &format!("{path} "), found),
                false => found.push((path, sub.clone())),
            }
        }
    }

    fn all() -> Vec<(String, Command)> {
        let mut command = command();
        command.build();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        found
    }

    #[test]
    fn each_command_has_two_examples_that_are_right() {
        for (path, mut command) in all() {
            let help = command.render_help().to_string();
            let examples: Vec<&str> =
                help.lines().filter_map(|line| line.strip_prefix("  nexudus-bridge ")).collect();
            assert!(examples.len() >= 2, "{path}: {help}");
            assert!(command.render_long_help().to_string().contains(examples[0]), "{path}");
            for example in examples {
                let words = shlex::split(example.split(" > ").next().unwrap()).unwrap();
                assert!(example.starts_with(&path), "{path}: {example}");
                let words = words.iter().map(String::as_str);
                if let Err(error) = Cli::try_parse_from(["nexudus-bridge"].into_iter().chain(words)) {
                    panic!("{example}: {error}");
                }
            }
        }
    }

    #[test]
    fn each_command_is_in_one_group() {
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut command = command();
        command.build();
        let named: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), named);
        assert_eq!(grouped.len(), named.len());
        let help = command.render_help().to_string();
        let positions: Vec<_> =
            GROUPS.iter().map(|(heading, _)| help.find(&format!("\n{heading}:\n"))).collect();
        assert!(positions.is_sorted() && positions[0].is_some(), "{help}");
        assert!(help.contains("\n  serve        Run the bridge\n"), "{help}");
    }

    #[test]
    fn global_options_come_last_and_serve_names_its_surroundings() {
        for (path, mut command) in all() {
            let help = command.render_long_help().to_string();
            let (_, global) =
                help.split_once("\nGlobal options:\n").unwrap_or_else(|| panic!("{path}: {help}"));
            assert!(global.contains("--config") && !global.contains("\nOptions:"), "{path}: {help}");
            if path == "serve" {
                for text in
                    ["/etc/nexudus-bridge/nexudus-bridge.toml", "SIGTERM", "SIGHUP", "Exit codes\n  0 "]
                {
                    assert!(global.contains(text), "{text} in {help}");
                }
            }
        }
    }
}
