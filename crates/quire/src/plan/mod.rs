//! `quire plan`: the cheapest layouts for what a file wants, and what is to be said of a layout
//! that is given. It speaks to no cluster; `capacity` computes, and here files are read and
//! answers shown.
//!
//! ```text
//!   files ─▶ capacity ─▶ show    tables and sentences
//!                     ├▶ json    the same, with stable names (docs/planner.md)
//!                     ├▶ report  one HTML file, with the map and the bars
//!                     └▶ write   files to begin a deployment with
//! ```

mod json;
mod report;
mod show;
mod write;

use crate::{
    Outcome,
    output::{complain, say, sayln},
    screen::Screen,
};
use capacity::{Answer, LayoutFile, PlanError, Wanted, check, presets, search};
use clap::Subcommand;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

const HELP: &str = "\
Examples:
  quire plan --preset reference
  quire plan --preset reference --print > plan.toml
  quire plan plan.toml --report plan.html --write deployment
  quire plan check --preset reference-as-drawn
  quire plan check layout.toml --plan plan.toml";

/// Compute the cheapest layouts that keep what is wanted.
#[derive(clap::Args)]
#[command(after_help = HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// What is wanted, as TOML (docs/planner.md).
    #[arg(value_name = "FILE.toml")]
    file: Option<PathBuf>,
    /// A file that is here: reference.
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    preset: Option<String>,
    /// Print the preset instead, to begin a file with.
    #[arg(long, requires = "preset")]
    print: bool,
    /// Write the best layout that this release runs: a configuration for each server, the words
    /// that make the keyspace, and what quire demo --plan and quire plan check take.
    #[arg(long, value_name = "DIR", conflicts_with = "print")]
    write: Option<PathBuf>,
    /// In which the servers' names are, their ids being the first part.
    #[arg(long, value_name = "DOMAIN", default_value = "example", requires = "write", value_parser = write::domain)]
    domain: String,
    #[command(flatten)]
    form: Form,
}

#[derive(Subcommand)]
enum Action {
    /// Judge a layout that is given, and what is claimed of it.
    Check(CheckArgs),
}

#[derive(clap::Args)]
struct CheckArgs {
    /// The layout, as TOML (docs/planner.md).
    #[arg(value_name = "LAYOUT.toml")]
    layout: Option<PathBuf>,
    /// A layout that is here: reference-as-drawn.
    #[arg(long, value_name = "NAME", conflicts_with = "layout")]
    preset: Option<String>,
    /// Print the preset instead, to begin a file with.
    #[arg(long, requires = "preset")]
    print: bool,
    /// What is wanted; default: what the layout names as its preset.
    #[arg(long, value_name = "FILE.toml")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(clap::Args)]
struct Form {
    /// Print one JSON document (documented in docs/planner.md).
    #[arg(long)]
    json: bool,
    /// Write a page with a map and bars, which needs no network, beside what is printed.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// The answer is no: nothing keeps all that is wanted.
const NO: u8 = 1;
/// Called wrongly.
const WRONG: u8 = 2;

pub(crate) fn run(args: &Args) -> Outcome {
    match &args.action {
        Some(Action::Check(args)) => run_check(args),
        None => run_search(args),
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("can't read {}: {e}", path.display()))
}

/// The text of a file or of a preset, and what to call it in an error.
fn text_of(
    file: Option<&Path>,
    preset: Option<&str>,
    presets: &[(&'static str, &'static str)],
) -> Result<(String, String), String> {
    match (file, preset) {
        (Some(path), _) => Ok((read(path)?, path.display().to_string())),
        (None, Some(name)) => {
            let text = presets::text(presets, name)?;
            Ok((text.into(), format!("preset {name}")))
        }
        (None, None) => Err("give a file, or --preset".into()),
    }
}

fn wanted_of(text: &str, called: &str) -> Result<Wanted, String> {
    Wanted::parse(text).map_err(|e| match e {
        PlanError::Syntax(why) => format!(
            "{called}: {why}\n  a whole file to compare with: quire plan --preset reference --print"
        ),
        other => format!("{called}: {other}"),
    })
}

fn write_report(form: &Form, page: impl FnOnce() -> String) -> Result<(), String> {
    let Some(path) = &form.report else {
        return Ok(());
    };
    let failed = |e| format!("can't write {}: {e}", path.display());
    fs::write(path, page()).map_err(failed)
}

fn run_search(args: &Args) -> Outcome {
    let preset = args.preset.as_deref();
    if args.file.is_none() && preset.is_none() {
        complain(
            "name a file that says what is wanted, or give --preset reference; quire plan --preset reference --print writes a file to begin with",
        );
        return Ok(WRONG.into());
    }
    let (text, called) = text_of(args.file.as_deref(), preset, &presets::PLANS)?;
    if args.print {
        say!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = wanted_of(&text, &called)?;
    let answer = search(&wanted);
    write_report(&args.form, || report::of_answer(&wanted, &answer))?;
    let written = write_layout(args, &wanted, &answer)?;
    if args.form.json {
        let document = json::of_answer(&wanted, &answer);
        sayln!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let shown = show::answer(&wanted, &answer);
        say!("{}", Screen::of_stdout().wrap(&shown, show::INDENT));
        if let Some(written) = written {
            sayln!("{}", Screen::of_stdout().wrap(&written, show::INDENT));
        }
    }
    Ok(match answer {
        Answer::Plan(_) => ExitCode::SUCCESS,
        Answer::Infeasible(_) => NO.into(),
    })
}

/// Writes what `--write` asks for, and says how to go on.
fn write_layout(args: &Args, wanted: &Wanted, answer: &Answer) -> Result<Option<String>, String> {
    let Some(dir) = &args.write else {
        return Ok(None);
    };
    let runs = match answer {
        Answer::Plan(plan) => plan.best.iter().find(|j| j.layout.runs().is_ok()),
        Answer::Infeasible(_) => {
            return Err(
                "nothing keeps all of it, so nothing was written; without --write it is said what to relax"
                    .into(),
            );
        }
    };
    let judged = runs.ok_or(
        "none of the best layouts is one that this release runs, so nothing was written; constraints.topologies = [\"primary-replica\"] leaves the others out",
    )?;
    write::write(dir, &write::files(wanted, judged, &args.domain)?)?;
    let dir = dir.display();
    Ok(Some(format!(
        "\n Written to {dir}: {}\n  - quire demo --plan {dir}/demo.toml runs it on this machine, scaled down\n  - quire server --config {dir}/nodes/ID/node.toml on each server; then quire keyspace create with the words of create.txt",
        show::title(wanted, judged)
    )))
}

fn run_check(args: &CheckArgs) -> Outcome {
    let preset = args.preset.as_deref();
    if args.layout.is_none() && preset.is_none() {
        complain(
            "name a file with a layout, or give --preset reference-as-drawn; quire plan check --preset reference-as-drawn --print writes a file to begin with",
        );
        return Ok(WRONG.into());
    }
    let (text, called) = text_of(args.layout.as_deref(), preset, &presets::LAYOUTS)?;
    if args.print {
        say!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let layout = LayoutFile::parse(&text).map_err(|e| format!("{called}: {e}"))?;
    let meant_for = layout.preset.as_deref().filter(|_| args.plan.is_none());
    if args.plan.is_none() && meant_for.is_none() {
        return Err(format!(
            "{called} doesn't say what it is meant for: add --plan FILE.toml, or a line preset = \"reference\" to the layout"
        )
        .into());
    }
    let (plan, plan_called) = text_of(args.plan.as_deref(), meant_for, &presets::PLANS)?;
    let wanted = wanted_of(&plan, &plan_called)?;
    let checked = check::check(&wanted, &layout).map_err(|e| format!("{called}: {e}"))?;
    write_report(&args.form, || {
        report::of_check(&wanted, &layout.name, &checked)
    })?;
    if args.form.json {
        let document = json::of_check(&wanted, &layout.name, &checked);
        sayln!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let shown = show::checked(&wanted, &layout.name, &checked);
        say!("{}", Screen::of_stdout().wrap(&shown, show::INDENT));
    }
    Ok(match checked.is_sound() {
        true => ExitCode::SUCCESS,
        false => NO.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn reference() -> Wanted {
        wanted_of(presets::PLANS[0].1, "reference").unwrap()
    }

    pub(super) fn as_drawn() -> check::Checked {
        let layout = LayoutFile::parse(presets::LAYOUTS[0].1).unwrap();
        check::check(&reference(), &layout).unwrap()
    }

    #[test]
    fn a_preset_that_is_none_is_answered_with_those_that_are() {
        let refused = text_of(None, Some("nonsense"), &presets::PLANS).unwrap_err();
        assert_eq!(refused, "there is no preset 'nonsense': use reference");
    }
}
