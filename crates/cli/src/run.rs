//! From arguments to exit code.

use std::{ffi::OsString, future::Future, process::ExitCode};

use clap::{
    CommandFactory, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    args::{self, Cli, Command, Invoked, Script},
    command::{self, Context},
    daemon,
    failure::{Exit, Failure, Outcome, Stop},
    output::Output,
};

/// Runs the command that was typed.
pub fn run(invoked: Invoked, arguments: Vec<OsString>) -> ExitCode {
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    let typed = arguments.clone();
    let parsed = match invoked {
        Invoked::AsKeel => {
            Cli::try_parse_from(std::iter::once(OsString::from("keel")).chain(arguments))
        }
        Invoked::AsScript => {
            let name = std::iter::once(OsString::from("swarm-deploy"));
            Script::try_parse_from(name.chain(arguments)).map(Cli::from)
        }
    };
    let (outcome, output) = match parsed {
        Ok(cli) => {
            let output = Output { json: cli.globals.json, quiet: cli.globals.quiet };
            (dispatch(cli, output), output)
        }
        Err(error) => {
            (refuse(&error, invoked, &typed), Output { json: wants_json, ..Output::default() })
        }
    };
    match outcome {
        Ok(()) | Err(Stop::NobodyListens) => ExitCode::SUCCESS,
        Err(Stop::Shown(exit)) => exit.into(),
        Err(Stop::Code(code)) => code.into(),
        Err(Stop::Failure(failure)) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

fn dispatch(cli: Cli, output: Output) -> Outcome {
    let context = Context { globals: cli.globals, output };
    match &cli.command {
        Command::Daemon(daemon) => daemon::run(&context.globals, daemon, output),
        Command::Ingress(ingress) => daemon::run_ingress(&context.globals, ingress, output),
        // `main` has taken the usual way already; this one is `keel -q supervise FOLDER`.
        Command::Supervise { folder } => {
            let code = engine::supervisor::run(folder);
            if code == ExitCode::SUCCESS { Ok(()) } else { Err(Stop::Shown(Exit::Failed)) }
        }
        Command::Ls(ls) => short(output, command::ls::run(&context, ls)),
        Command::Ps(ps) => short(output, command::ps::run(&context, ps)),
        Command::Logs(logs) => short(output, command::logs::run(&context, logs)),
        Command::Inspect(inspect) => short(output, command::inspect::run(&context, inspect)),
        Command::Stats(stats) => short(output, command::stats::run(&context, stats)),
        Command::Images(images) => short(output, command::images::run(&context, images)),
        Command::Version => short(output, command::version::run(&context)),
        Command::DialStdio => changing(command::dial_stdio::run(&context)),
        Command::Completions { shell } => command::completions::run(&context, *shell),
        Command::Build(build) => changing(command::deploy::build(&context, build)),
        Command::Deploy(deploy) => changing(command::deploy::run(&context, deploy)),
        Command::Rollback(rollback) => changing(command::rollback::run(&context, rollback)),
        Command::Scale(scale) => changing(command::scale::run(&context, scale)),
        Command::Restart(restart) => changing(command::scale::restart(&context, restart)),
        Command::Exec(exec) => changing(command::exec::run(&context, exec)),
        Command::Nodes => short(output, command::node::list(&context)),
        Command::Node(args::Node::Drain(drain)) => changing(command::node::drain(&context, drain)),
        Command::Node(args::Node::Activate { node }) => {
            changing(command::node::activate(&context, node))
        }
        Command::Adopt { stack } => changing(command::adopt::run(&context, stack)),
        Command::ReleaseControl(back) => changing(command::adopt::give_back(&context, back)),
        Command::Rm(rm) => changing(command::rm::run(&context, rm)),
        Command::Releases(releases) => short(output, command::releases::run(&context, releases)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("threads", format!("start the runtime: {error}")))
}

/// Runs a command that changes something and minds Ctrl-C itself.
fn changing(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = runtime()?;
    let outcome = runtime.block_on(command);
    // A build's reader may hang on a pipe that somebody else holds: it is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Runs a command that only looks, until it ends or Ctrl-C.
fn short(output: Output, command: impl Future<Output = Outcome>) -> Outcome {
    runtime()?.block_on(async {
        tokio::select! {
            outcome = command => outcome,
            _ = tokio::signal::ctrl_c() => {
                output.note("interrupted; nothing was changed");
                Err(Stop::Shown(Exit::Interrupted))
            }
        }
    })
}

/// What the parser has to say: help and version on standard output, mistakes in our own words.
fn refuse(error: &clap::Error, invoked: Invoked, typed: &[OsString]) -> Outcome {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Output::default().line(error.render().to_string().trim_end())?;
            Ok(())
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{}", Cli::command().render_help());
            Err(Stop::Shown(Exit::Usage))
        }
        _ => Err(mistake(error, &command_name(invoked, typed)).into()),
    }
}

/// The command whose help is the one to read.
fn command_name(invoked: Invoked, typed: &[OsString]) -> String {
    if invoked == Invoked::AsScript {
        return "swarm-deploy".to_owned();
    }
    let all = Cli::command();
    let known = typed.iter().find_map(|word| all.find_subcommand(word));
    known.map_or_else(|| "keel".to_owned(), |command| format!("keel {}", command.get_name()))
}

fn mistake(error: &clap::Error, name: &str) -> Failure {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    // Missing arguments are listed on the lines that follow.
    let listed: Vec<&str> =
        text.lines().skip(1).take_while(|line| line.starts_with("  ")).map(str::trim).collect();
    let message = format!("{message} {}", listed.join(" ")).trim_end().to_owned();
    let near = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg]
        .into_iter()
        .find_map(|kind| error.get(kind));
    let near = match near {
        Some(ContextValue::String(one)) => Some(one.clone()),
        Some(ContextValue::Strings(all)) => all.first().cloned(),
        _ => None,
    };
    let hint = near.map_or_else(
        || format!("see `{name} --help`"),
        |near| format!("did you mean `{near}`? See `{name} --help`"),
    );
    Failure::usage(message).hint(hint)
}
