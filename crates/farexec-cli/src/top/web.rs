//! `farexec top --web`: what the screen shows, and a timeline of each worker, as a page for a browser on this machine.
//!
//! The page is `page/`, which asks for `state` again and again. It is for whoever was told its address: a random token is the first
//! part of every path in it. A cookie would be sent to every other server on this machine as well, as ports are no part of where a
//! cookie belongs.

use std::io::Cursor;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use farexec::monitor::Program;
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tiny_http::{Header, Method, Request, Response, Server};

use super::snapshot::{COLUMNS, History};
use super::timeline::{LOOKS, Timeline};
use super::{Arguments, ask, pause};
use crate::exit::{self, Failure};
use crate::screen::Screen;
use crate::stop::Stop;

/// Random bytes in a token: more than can be guessed.
const TOKEN_BYTES: usize = 32;

/// What a browser is told of every answer: nothing from elsewhere goes into the page, nothing of it elsewhere, and nothing is kept.
const HEADERS: [(&str, &str); 6] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
];

/// Shows the page until Ctrl-C.
pub(super) fn serve(arguments: &Arguments, program: &Program, screen: &Screen) -> Result<u8, Failure> {
    let mut page = Page::new(arguments, &ask(program)?)?;
    let stop = Stop::listen().map_err(|error| Failure::new(exit::FAILED, error))?;
    let port = arguments.port.unwrap_or(0);
    let server = Server::http((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| Failure::new(exit::FAILED, format!("cannot listen at 127.0.0.1:{port}: {error}")))?;
    let port = server.server_addr().to_ip().map_or(port, |address| address.port());
    page.hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    screen.result(&format_args!("http://127.0.0.1:{port}/{}/", page.token))?;
    screen.flush()?;
    if screen.results_are_read() {
        screen.say(&"Who has this address can see the page. Ctrl-C ends it.");
    }
    let page = Arc::new(Mutex::new(page));
    let answering = answer_all(server, Arc::clone(&page))?;
    while pause(arguments.interval, &stop) {
        let told = program.snapshot();
        let mut page = lock(&page);
        match told {
            Ok(line) => page.take(&line)?,
            Err(_) => page.history.ended = true,
        }
        if answering.is_finished() {
            return Err(Failure::new(exit::FAILED, "the page cannot be shown any more: nobody can connect"));
        }
    }
    Ok(exit::STOPPED)
}

/// Answers whoever asks, in a thread of its own, which nobody waits for: who asks and does not read the answer holds up the page, but not
/// the end of the command.
fn answer_all(server: Server, page: Arc<Mutex<Page>>) -> Result<JoinHandle<()>, Failure> {
    let answer = move || {
        for request in server.incoming_requests() {
            let answer = lock(&page).answer(&request);
            // Who asked may have gone.
            let _ = request.respond(answer);
        }
    };
    let thread = thread::Builder::new().name("farexec-page".into()).spawn(answer);
    thread.map_err(|error| Failure::new(exit::FAILED, format!("no thread for the page: {error}")))
}

/// The page, also after a thread panicked that had it: it is whole.
fn lock(page: &Mutex<Page>) -> MutexGuard<'_, Page> {
    page.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Page {
    token: String,
    /// What a request that was meant for this server says it is for. By another name, a page from elsewhere could ask here as if it
    /// were asking at home (DNS rebinding).
    hosts: [String; 2],
    interval: f64,
    history: History,
    timeline: Timeline,
}

/// Status, type, and contents.
type Answer = (u16, &'static str, String);

impl Page {
    fn new(arguments: &Arguments, first: &str) -> Result<Self, Failure> {
        let mut token = [0; TOKEN_BYTES];
        getrandom::fill(&mut token)
            .map_err(|error| Failure::new(exit::FAILED, format!("no random bytes: {error}")))?;
        let mut page = Self {
            token: BASE64_URL_SAFE_NO_PAD.encode(token),
            hosts: Default::default(),
            interval: arguments.interval.as_secs_f64(),
            history: History::default(),
            timeline: Timeline::default(),
        };
        page.take(first)?;
        Ok(page)
    }

    fn take(&mut self, line: &str) -> Result<(), Failure> {
        self.history.take(line)?;
        self.timeline.take(&self.history);
        Ok(())
    }

    fn answer(&self, request: &Request) -> Response<Cursor<Vec<u8>>> {
        let (status, kind, text) = self.find(request);
        let headers = HEADERS.into_iter().chain([("Content-Type", kind)]);
        headers
            .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
            .fold(Response::from_data(text).with_status_code(status), Response::with_header)
    }

    fn find(&self, request: &Request) -> Answer {
        let host = request.headers().iter().find(|header| header.field.equiv("Host"));
        let host = host.map(|header| header.value.as_str());
        if !self.hosts.iter().any(|own| host == Some(own.as_str())) {
            return refusal(
                403,
                "This page is not known by that name: take the address that farexec top wrote.",
            );
        }
        let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let token = parts.next().unwrap_or_default();
        let name = parts.next().filter(|_| bool::from(token.as_bytes().ct_eq(self.token.as_bytes())));
        if name.is_some() && !matches!(request.method(), Method::Get | Method::Head) {
            return refusal(405, "This page can be looked at, and nothing else.");
        }
        match name {
            Some("") => (200, "text/html; charset=utf-8", include_str!("page/page.html").to_owned()),
            Some("page.css") => (200, "text/css; charset=utf-8", include_str!("page/page.css").to_owned()),
            Some("page.js") => {
                (200, "text/javascript; charset=utf-8", include_str!("page/page.js").to_owned())
            }
            Some("state") => (200, "application/json", self.state(query)),
            _ => refusal(
                404,
                "There is no such page: take the address that farexec top wrote, to its last slash.",
            ),
        }
    }

    /// What the page shows, sorted as it wants it (`sort=COLUMN&reversed`).
    fn state(&self, query: &str) -> String {
        let wanted = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name));
        let sort =
            wanted("sort=").and_then(|text| text.parse().ok()).filter(|&column| column < COLUMNS.len());
        let rows = self.history.sorted(sort.unwrap_or(0), wanted("reversed").is_some());
        let columns =
            COLUMNS.iter().map(|column| json!({"name": column.name, "is_number": column.is_number}));
        let rows =
            rows.iter().map(|row| json!({"key": row.key(), "state": row.state(), "cells": row.cells()}));
        #[expect(clippy::cast_precision_loss, reason = "it is a few hundred")]
        let span = self.interval * LOOKS as f64;
        let state = json!({
            "head": self.history.head(),
            "ended": self.history.ended,
            "last_error": self.history.last_error(),
            "interval": self.interval,
            "span": span,
            "columns": columns.collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "timeline": self.timeline.to_json(),
        });
        state.to_string()
    }
}

fn refusal(status: u16, text: &str) -> Answer {
    (status, "text/plain; charset=utf-8", format!("{text}\n"))
}
