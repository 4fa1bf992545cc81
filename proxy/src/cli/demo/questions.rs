//! What the tour asks.

use serde_json::{Value, json};

/// A request's last user message, and the request.
pub(super) struct Asked {
    pub(super) question: &'static str,
    pub(super) body: Value,
}

/// A picture of one pixel, as a client sends it.
const PICTURE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A passage that answers [`long`]'s question; it must survive compression.
pub(super) const RELEVANT: &str = "approved by the billing lead";

/// A passage that has nothing to do with it; compression is to drop it.
pub(super) const IRRELEVANT: &str = "parking garage";

pub(super) fn coding() -> Asked {
    let question = "Write a Rust function that reverses the words of a sentence.";
    Asked {
        question,
        body: ask(&json!(question), true),
    }
}

pub(super) fn picture() -> Asked {
    let question = "What is in this picture?";
    let content = json!([
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]);
    Asked {
        question,
        body: ask(&content, false),
    }
}

/// A question with far more material than it needs: documents in the system message, terms and
/// passages in the extension fields.
pub(super) fn long() -> Asked {
    let question = "How long does a refund of an annual subscription take, and who approves it?";
    let documents: String = PASSAGES
        .iter()
        .enumerate()
        .map(|(number, passage)| {
            format!("<document id=\"{}\">\n{passage}\n</document>\n", number + 1)
        })
        .collect();
    let system = format!(
        "You answer questions of the support team from the documents below.\n<context>\n{documents}</context>"
    );
    let mut body = ask(&json!(question), false);
    body["messages"] = json!([
        {"role": "system", "content": system},
        {"role": "user", "content": question},
    ]);
    body["sluicegate"] = json!({"terms": TERMS, "context": NOTES});
    Asked { question, body }
}

/// The question that is asked before and after the swap; `attempt` keeps it out of the cache.
pub(super) fn incident(attempt: &str) -> Asked {
    let question = "Since the last deployment our shop answers slowly. Where should we look first?";
    let mut body = ask(&json!(question), false);
    body["user"] = json!(attempt);
    Asked { question, body }
}

/// A short question for the traffic during the swap; each number makes it another one.
pub(super) fn small_talk(number: u64) -> Value {
    let mut body = ask(
        &json!(format!("Tell me something nice about the number {number}.")),
        false,
    );
    body["max_tokens"] = json!(1);
    body
}

fn ask(content: &Value, stream: bool) -> Value {
    let mut body = json!({
        "model": "auto",
        "messages": [{"role": "user", "content": content}],
    });
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

const PASSAGES: [&str; 10] = [
    "Refunds of an annual subscription take ten working days and are approved by the billing lead. \
     Monthly plans are refunded by the support team itself within two working days.",
    "The parking garage below the office opens at seven. Guests get a code at the front desk, which \
     is valid until midnight of the same day.",
    "Release notes are written on Thursdays. Every team adds its changes to the shared page before \
     noon, and the release manager cuts the branch in the afternoon.",
    "The data center in the north has its own cooling loop. Maintenance windows are announced two \
     weeks ahead, and the standby loop takes over for about an hour.",
    "New colleagues receive a laptop, two screens and a badge on their first day. Headsets are ordered \
     by the team lead from the catalogue.",
    "Support tickets are sorted into four priorities. The highest one pages the engineer on duty, the \
     lowest is answered within three working days.",
    "The cafeteria serves a vegetarian dish every day. The menu of the week hangs next to the door, \
     and allergens are printed in small letters.",
    "Travel is booked through the portal. Trains are preferred below six hours, and hotels are paid \
     by the company card.",
    "Backups of the customer database run every night at two. A restore is rehearsed each quarter, \
     and the protocol is signed by two engineers.",
    "The brand colours are teal and sand. Logos may not be stretched, and the smallest size on \
     screens is twenty-four pixels.",
];

const NOTES: [&str; 6] = [
    "A refund of an annual subscription is paid back to the card that it was bought with; where the \
     card has expired, by bank transfer.",
    "The street in front of the office is closed on market days, so deliveries come in through the \
     back gate before eight.",
    "Screens in the meeting rooms turn off after ten minutes; the remote control lies in the drawer.",
    "Interns rotate through three teams, four weeks each, and present their work at the end.",
    "The plants on the second floor are watered on Mondays by a service.",
    "Old monitors are collected twice a year and given to a school nearby.",
];

const TERMS: [&str; 24] = [
    "Refund: money that is paid back to a customer",
    "Annual subscription: a plan that is paid once a year",
    "Billing lead: the person who answers for all invoices",
    "Dunning: reminding a customer of an open invoice",
    "Chargeback: a payment that the card's bank takes back",
    "Proration: charging for the part of a period that was used",
    "Ledger: the book of all movements of money",
    "Voucher: a code that lowers a price",
    "Seat: one person's access to a shared plan",
    "Trial: the first fourteen days of a plan, free of charge",
    "Runbook: steps to follow when something breaks",
    "Postmortem: a report on an outage and its causes",
    "Canary: a small group that gets a release first",
    "Blue-green: two environments that take turns",
    "Badge: the card that opens the doors",
    "Hot desk: a desk that belongs to nobody",
    "Stand-up: a short meeting at the same time each day",
    "Backlog: everything that could be done next",
    "Epic: a large piece of work made of smaller ones",
    "Retro: a meeting about how work went",
    "Onboarding: the first weeks of a new colleague",
    "Catalogue: the list of equipment that can be ordered",
    "Quarter: three months, beginning in January",
    "All-hands: a meeting of the whole company",
];
