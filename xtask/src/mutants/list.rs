//! The planted bugs: which file, what is changed, and what must catch it. `docs/mutants.md` says what each one would mean.

use super::Suite::{self, Integration, Model, Simulation, Unit};

/// One planted bug.
pub(crate) struct Mutant {
    /// Stable; also in `docs/mutants.md`.
    pub(crate) name: &'static str,
    /// In `broker-core/src`.
    pub(crate) file: &'static str,
    /// Stands exactly once in the file.
    pub(crate) find: &'static str,
    pub(crate) replace: &'static str,
    /// What must catch it, the quickest first.
    pub(crate) suites: &'static [Suite],
}

const fn mutant(name: &'static str, file: &'static str, find: &'static str, replace: &'static str, suites: &'static [Suite]) -> Mutant {
    Mutant { name, file, find, replace, suites }
}

const ENTRY: &str = "hub/topic_entry/mod.rs";
const READING: &str = "hub/topic_entry/reading.rs";
const SERVING: &str = "hub/topic_entry/serving.rs";
const LAGGING: &str = "hub/topic_entry/lagging.rs";
const RESUME: &str = "hub/resume.rs";
const BACKLOG: &str = "hub/backlog.rs";
const DELIVER: &str = "hub/deliver.rs";
const SLOW: &str = "hub/slow.rs";
const CONVERSE: &str = "hub/converse.rs";
const SESSION: &str = "session/machine.rs";
const SUBSCRIBING: &str = "session/subscribing.rs";
const LOG: &str = "memory/log.rs";
const ROWS: &str = "memory/rows.rs";
const PAGING: &str = "hub/paging.rs";
const SELECTING: &str = "hub/selecting.rs";
const SELECTION: &str = "selection.rs";
const SNAPSHOTS: &str = "hub/snapshots.rs";
const WRITING: &str = "hub/writing.rs";

const SIM: &[Suite] = &[Simulation];
const MODEL: &[Suite] = &[Model];
const RESUMES: &[Suite] = &[Unit("hub::resume")];
const SESSIONS: &[Suite] = &[Unit("session::tests")];
const BACKLOGS: &[Suite] = &[Unit("hub::backlog")];

/// Every planted bug, by file.
pub(crate) const MUTANTS: &[Mutant] = &[
    // ---- joining, order, refill ----
    mutant(
        "hole_is_passed",
        ENTRY,
        "if position.offset == current.offset + 1 {\n                    self.sequence(&mut state,",
        "if position.offset > current.offset {\n                    self.sequence(&mut state,",
        SIM,
    ),
    mutant(
        "double_is_sequenced",
        ENTRY,
        "if position.offset == current.offset + 1 {\n                    self.sequence(&mut state,",
        "if position.offset <= current.offset + 1 {\n                    self.sequence(&mut state,",
        SIM,
    ),
    mutant(
        "refill_moves_the_position_only",
        READING,
        "self.sequence(state, ports, publication.clone());",
        "state.position = publication.position;",
        SIM,
    ),
    mutant(
        "trimmed_in_silence",
        READING,
        "            reason: GapReason::Trimmed,\n        };\n        self.signal(state, ports, gap, current);",
        "            reason: GapReason::Trimmed,\n        };\n        let _ = (ports, gap);",
        SIM,
    ),
    mutant("new_epoch_in_silence", READING, "return self.signal(state, ports, gap, current);", "let _ = gap;\n            return;", SIM),
    mutant("read_serves_later_joiners", READING, "state.reading = Some(state.joiners.len());", "state.reading = Some(usize::MAX);", MODEL),
    mutant("cancel_leaves_the_count_served", ENTRY, "*served -= 1;", "*served += 0;", MODEL),
    mutant(
        "nothing_is_recorded",
        READING,
        "state.recording = true;\n        let rows =",
        "state.recording = false;\n        let rows =",
        SIM,
    ),
    mutant("member_begins_one_early", SERVING, "last: state.seq,", "last: state.seq - 1,", SIM),
    mutant("member_begins_one_late", SERVING, "last: state.seq,", "last: state.seq + 1,", SIM),
    mutant("leave_is_not_counted", ENTRY, "state.counts[shard] -= 1;", "state.counts[shard] -= 0;", SIM),
    mutant("join_is_not_counted", SERVING, "state.counts[shard] += u32::from(!wants.again);", "let _ = wants.again;", SIM),
    mutant(
        "lost_link_is_not_read_again",
        READING,
        "state.again |= self.keeps_log;\n        self.go_on(&mut state, ports);\n    }",
        "self.go_on(&mut state, ports);\n    }",
        &[Integration("lost")],
    ),
    mutant(
        "failed_read_forgets_joiners",
        READING,
        "state.failures += 1;\n        state.again = true;",
        "state.failures += 1;\n        state.again = true;\n        state.joiners.clear();",
        SIM,
    ),
    mutant(
        "end_of_interest_forgets_joiners",
        ENTRY,
        "if state.joiners.is_empty() && state.snapshots.is_idle() {\n            state.interest = Interest::None;",
        "if state.snapshots.is_idle() {\n            state.interest = Interest::None;",
        SIM,
    ),
    // ---- lagging shards ----
    mutant(
        "full_inbox_drops",
        LAGGING,
        "} else if let OnFull::Lag(position) = on_full {",
        "} else if let (OnFull::Lag(position), false) = (on_full, shard < usize::MAX) {",
        SIM,
    ),
    mutant(
        "lag_is_closed_in_silence",
        LAGGING,
        "vec![Job::Gap { after: lag.seq, seq: state.seq, gap }]",
        "{\n                let _ = gap;\n                Vec::new()\n            }",
        SIM,
    ),
    mutant("share_is_never_given_back", ENTRY, "self.shares[shard].fetch_sub(bytes, Relaxed);", "let _ = (shard, bytes);", SIM),
    mutant("lag_is_never_caught_up", DELIVER, "let caught_up = done && mem::take(&mut topic.lagged);", "let caught_up = false;", SIM),
    // ---- resume ----
    mutant(
        "resume_ignores_the_epoch",
        RESUME,
        "if after.epoch != self.position.epoch || after.offset > self.position.offset {\n            return None;",
        "if after.offset > self.position.offset {\n            return None;",
        RESUMES,
    ),
    mutant(
        "resume_ignores_holes",
        RESUME,
        "(after.offset == self.position.offset || after.offset >= self.complete_from)",
        "(after.offset <= self.position.offset || after.offset >= self.complete_from)",
        RESUMES,
    ),
    mutant("resume_begins_one_early", RESUME, "at.offset <= after)", "at.offset < after)", RESUMES),
    mutant("resume_keeps_doubles", RESUME, "kept.dedup_by_key(|publication| offset(publication));", "", RESUMES),
    mutant(
        "trimmed_beginning_is_recovered",
        RESUME,
        "return Some((log.kept_after(log.complete_from), told(false, Some(gap))));",
        "let _ = gap;\n        return Some((log.kept_after(log.complete_from), told(true, None)));",
        RESUMES,
    ),
    mutant("overflowed_record_is_trusted", RESUME, "if log.ring_overflowed && !last_try {", "if false && !last_try {", RESUMES),
    // ---- backlog ----
    mutant(
        "drop_oldest_in_silence",
        BACKLOG,
        "let frames = encode(dropped.gap);",
        "let _ = encode;\n        let frames = Bytes::new();",
        BACKLOGS,
    ),
    mutant("dropped_gap_does_not_grow", BACKLOG, "so_far.gap.to = gap.to.or(so_far.gap.to);", "", BACKLOGS),
    mutant(
        "drop_takes_other_topics",
        BACKLOG,
        "Entry::Run(run) if run.topic() == topic => {\n                    let (taken, is_empty)",
        "Entry::Run(run) => {\n                    let (taken, is_empty)",
        BACKLOGS,
    ),
    mutant(
        "partial_frame_is_sent_again",
        "hub/batch.rs",
        "self.from = current + u32::from(partial.is_some());",
        "self.from = current;",
        BACKLOGS,
    ),
    mutant(
        "rest_of_a_frame_is_not_counted",
        "hub/batch.rs",
        "batch.held.counted(rest.to_vec(), 0)",
        "Bytes::copy_from_slice(&rest)",
        BACKLOGS,
    ),
    mutant("lists_are_not_counted", WRITING, "let list = conn.backlog.list_bytes();", "let list = 0;", &[Integration("relief")]),
    // ---- delivery ----
    mutant(
        "member_gets_what_it_has",
        DELIVER,
        "let from = batch.publications.partition_point(|publication| publication.seq <= member.last);",
        "let from = 0;",
        SIM,
    ),
    mutant(
        "except_is_ignored",
        DELIVER,
        "if except.as_ref().is_some_and(|except| self.is_meant(member.slot, except)) {",
        "if except.as_ref().is_some_and(|except| self.is_meant(member.slot, except)) && member.slot == u32::MAX {",
        SIM,
    ),
    mutant(
        "slow_client_is_not_closed",
        SLOW,
        "if conn.backlog.weight(self.is_full) > max + max / 4 || dropped == 0 {",
        "if conn.backlog.bytes() == usize::MAX {",
        &[Integration("slow")],
    ),
    mutant("catch_up_begins_one_late", SLOW, "offset: first.offset.checked_sub(1)?,", "offset: first.offset,", SIM),
    mutant(
        "catch_up_never_reads",
        SLOW,
        "conn.catching_up.iter_mut().filter(|catch_up| !catch_up.joining)",
        "conn.catching_up.iter_mut().filter(|catch_up| catch_up.joining)",
        SIM,
    ),
    mutant(
        "void_join_is_not_released",
        CONVERSE,
        "            _ => {\n                entry.leave(&self.hub.ports, self.index);\n",
        "            _ => {\n",
        SIM,
    ),
    // ---- sessions ----
    mutant(
        "generation_is_ignored",
        SUBSCRIBING,
        "found.generation == generation && found.pending.as_ref()",
        "found.pending.as_ref()",
        SESSIONS,
    ),
    mutant(
        "pointless_subscribe_is_not_answered",
        SUBSCRIBING,
        "pointless.extend(subscription.pending.as_mut().map(|pending| std::mem::take(&mut pending.command)));",
        "let _ = &mut subscription;",
        SESSIONS,
    ),
    mutant("close_keeps_its_topics", SESSION, "        self.leave_all(effects);\n", "", SESSIONS),
    mutant("answer_wakes_nobody", "session/asking.rs", "        self.go_on(now, effects);\n    }", "    }", SESSIONS),
    mutant(
        "pings_once",
        SESSION,
        "self.timers.ping_at = Some(now + self.rules.settings.ping_interval);",
        "",
        &[Integration("conversing"), Simulation],
    ),
    // ---- the memory backplane ----
    mutant("key_is_forgotten", LOG, "self.retries.remember(key, published, now);", "let _ = key;", SIM),
    mutant("epoch_comes_again", LOG, "epoch: Epoch::from_random(fastrand::u64(..)),", "epoch: Epoch::from_random(1),", SIM),
    // ---- keyed state ----
    mutant(
        "no_rows_are_sent",
        SERVING,
        "self.keeps_rows && !(self.has_snapshot && wants.snapshot)",
        "self.keeps_rows && !wants.snapshot",
        SIM,
    ),
    mutant(
        "failed_resume_brings_no_rows",
        SERVING,
        "outcome.is_some_and(|outcome| outcome.recovered) {\n            return Lot::Admitted(missed, outcome);",
        "outcome.is_some() {\n            return Lot::Admitted(missed, outcome);",
        SIM,
    ),
    mutant(
        "changes_behind_rows_are_lost",
        RESUME,
        ".filter(is_old).chain(changes.rest())",
        ".filter(is_old).chain(&changes.rest()[..0])",
        SIM,
    ),
    mutant("rows_come_with_their_changes", RESUME, "at.offset <= state.since.offset) && !row", "at.offset > 0) && !row", SIM),
    mutant(
        "only_the_first_page_of_rows",
        "hub/reading.rs",
        "let mut next = first.next;",
        "let mut next = first.next.filter(|_| false);",
        SIM,
    ),
    mutant("rows_follow_the_top", CONVERSE, "position = Some(safe_position(top, resume));", "position = Some(top);", SIM),
    mutant(
        "last_page_ends_it",
        PAGING,
        "entry.join_again(&self.hub.ports, paging.member, paging.join_leave, paging.until);",
        "let _ = (paging.member, paging.join_leave, paging.until);",
        SIM,
    ),
    mutant(
        "pages_go_on_at_the_top",
        ENTRY,
        "let since = Some(Since::Position(until));",
        "let since = Some(Since::Position(state.position.unwrap_or(until)));",
        SIM,
    ),
    mutant("removal_is_a_row", ROWS, "if !publication.removed {", "if publication.key.is_some() {", SIM),
    mutant("older_row_stays", ROWS, "        self.remove(key);\n        if !publication.removed", "        if !publication.removed", SIM),
    mutant(
        "expired_change_is_a_hole",
        LOG,
        "self.forgotten = self.forgotten.max(offset_of(publication));",
        "let _ = &self.forgotten;",
        SIM,
    ),
    // ---- filter and pace ----
    mutant(
        "filter_lets_everything_live_through",
        SELECTING,
        "*seq > member.last && choice.selection.wants(publication)",
        "*seq > member.last",
        SIM,
    ),
    mutant("filter_lets_everything_missed_through", SELECTION, "missed.retain(|publication| self.wants(publication));", "", SIM),
    mutant(
        "filter_lets_every_history_through",
        "session/asking.rs",
        "selection.is_none_or(|selection| selection.wants(publication))",
        "(selection.is_none() || publication.position.is_some())",
        SIM,
    ),
    mutant(
        "pace_is_ignored",
        SELECTING,
        "if pace.next_at <= self.now || pace",
        "if pace.next_at > self.now || pace.next_at <= self.now || pace",
        SIM,
    ),
    mutant(
        "pace_keeps_the_oldest",
        SELECTING,
        "self.waiting.retain(|(_, older)| older.key != publication.key);",
        "if self.waiting.iter().any(|(_, older)| older.key == publication.key) {\n                continue;\n            }",
        SIM,
    ),
    mutant(
        "pace_keeps_one_of_all_keys",
        SELECTING,
        "self.waiting.retain(|(_, older)| older.key != publication.key);",
        "self.waiting.clear();",
        SIM,
    ),
    mutant(
        "paced_is_never_sent",
        SELECTING,
        "self.release(slot, variant, &codec, choice, &topic.entry);",
        "let _ = (slot, variant, &codec, choice);",
        SIM,
    ),
    mutant(
        "paced_comes_behind_its_gap",
        DELIVER,
        "self.release(member.slot, group.variant, codec, choice, &topic.entry);",
        "let _ = (codec, choice);",
        SIM,
    ),
    mutant("latest_keeps_one_of_all_keys", BACKLOG, "seen.insert(key)", "seen.insert(if key.is_some() { &None } else { key })", SIM),
    // ---- snapshots ----
    mutant(
        "nothing_follows_the_snapshot",
        SNAPSHOTS,
        "payload: payload.clone(), since: since.iter().cloned().collect() });",
        "payload: payload.clone(), since: since.iter().take(0).cloned().collect() });",
        SIM,
    ),
    mutant(
        "nothing_is_kept_for_the_snapshot",
        SNAPSHOTS,
        "self.since.push_back(publication.clone());\n            } else {\n                self",
        "} else {\n                self",
        SIM,
    ),
    mutant("nothing_is_kept_for_who_comes_later", SNAPSHOTS, "last.since.push_back(publication.clone());", "let _ = &last.since;", SIM),
    mutant(
        "failed_snapshot_forgets_joiners",
        SERVING,
        "for joiner in state.snapshots.failed() {\n                self.refuse_joiner(ports, &joiner, refusal.clone());",
        "for joiner in state.snapshots.failed() {\n                let _ = (&joiner, &refusal);",
        SIM,
    ),
    mutant("snapshot_outlives_a_gap", ENTRY, "state.seq += 1;\n        state.snapshots.invalidate();", "state.seq += 1;", SIM),
    mutant(
        "snapshot_outlives_its_listeners",
        ENTRY,
        "state.known = None;\n            state.snapshots.invalidate();",
        "state.known = None;",
        SIM,
    ),
    // ---- catching up, once more ----
    mutant(
        "who_takes_nothing_reads_on",
        WRITING,
        "conn.backlog.is_empty() && !conn.blocked;",
        "conn.backlog.is_empty();",
        &[Integration("behind")],
    ),
];
