//! The configuration in force with what is suspicious in it, and the verification of the audit.

use askama::Template;
use axum::extract::State;
use http::StatusCode;

use super::Console;
use super::door::Posted;
use super::page::{Answer, Shell, go, render};
use super::visitor::Visitor;
use super::words::Sentence;
use crate::config::Scope;
use crate::serve::admin::service::Setup;

#[derive(Template)]
#[template(path = "console/configuration.html")]
struct Page {
    shell: Shell,
    setup: Setup,
    loaded: Vec<Sentence>,
    findings: Vec<Finding>,
}

struct Finding {
    lint: &'static str,
    about: Sentence,
    message: Sentence,
}

pub async fn show(State(console): State<Console>, visitor: Visitor, shell: Shell) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let setup = console.admin.service.setup().await?;
    let page = Page {
        shell,
        loaded: setup.warnings.iter().map(|warning| Sentence::read(warning)).collect(),
        findings: setup
            .findings
            .iter()
            .map(|found| Finding {
                lint: found.lint,
                about: Sentence::read(&found.about),
                message: Sentence::read(&found.message),
            })
            .collect(),
        setup,
    };
    Ok(render(StatusCode::OK, &page))
}

/// Begins to verify the audit.
pub async fn verify(State(console): State<Console>, visitor: Visitor, _: Posted) -> Answer {
    console.admin.service.verify_audit(&visitor.call()).await?;
    Ok(go("/console/logins#chain"))
}
