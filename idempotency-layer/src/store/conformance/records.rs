//! Fingerprints, checkpoints and independence: clauses 4, 5, 14 and 15.

use bytes::Bytes;

use super::Harness;
use super::probe::{Probe, checkpoint, fingerprint, response};
use crate::store::{Checkpoint, Claim, ClaimRequest, Fenced, Outcome, RecordId, Store, Tombstone};

pub(super) async fn mismatch<H: Harness>(probe: &Probe<'_, H>) {
    beside_a_running_claim(probe).await;
    beside_an_outcome(probe).await;
    what_cannot_be_compared_matches(probe).await;
    for _ in 0..probe.rounds() {
        strangers_at_once(probe).await;
    }
}

async fn beside_a_running_claim<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask_for(3);
    probe.run(ask, "of an unknown record").await;
    for _ in 0..2 {
        probe.mismatch(probe.stranger(ask), "by another request, while the first runs").await;
        probe.advance(1).await;
    }
    probe.mismatch(probe.stranger(ask), "by another request, while the first runs").await;
    probe.in_flight(probe.rival(ask), "after three by another request").await;
    probe.advance(1).await;
    probe.mismatch(probe.stranger(ask), "by another request, of an orphan").await;
    let heir = probe.run(probe.rival(ask), "of an orphan, after others by another request").await;

    // The owner still holds the claim.
    probe.mismatch(probe.stranger(ask), "by another request, while the heir runs").await;
    let answer = response("done");
    let held = probe.complete(ask.record, heir.fence, &Outcome::Response(answer.clone())).await;
    probe.held(held, "a completion after a claim by another request");
    probe.replays(probe.rival(ask), &answer, "after a claim by another request").await;
}

async fn beside_an_outcome<H: Harness>(probe: &Probe<'_, H>) {
    let (answer, reason) = (response("done"), Tombstone::Unreplayable);
    for outcome in [Outcome::Response(answer.clone()), Outcome::Tombstone(reason)] {
        let ask = probe.ask();
        let fence = probe.run(ask, "of an unknown record").await.fence;
        probe.held(probe.complete(ask.record, fence, &outcome).await, "a completion");
        for _ in 0..3 {
            let when = "by another request, of a finished record";
            probe.mismatch(probe.stranger(ask), when).await;
            probe.mismatch(ClaimRequest { token: ask.token, ..probe.stranger(ask) }, when).await;
            match &outcome {
                Outcome::Response(_) => probe.replays(probe.rival(ask), &answer, "after that").await,
                Outcome::Tombstone(_) => probe.buried(probe.rival(ask), reason, "after that").await,
            }
        }
    }
}

/// Fingerprints are compared with [`Fingerprint::matches`](crate::Fingerprint::matches), not byte
/// by byte.
async fn what_cannot_be_compared_matches<H: Harness>(probe: &Probe<'_, H>) {
    let answer = response("done");
    let (none, elsewise) = (fingerprint(0, 0), fingerprint(2, 0xa6));
    for (kept, asked) in [(1, none), (1, elsewise), (2, fingerprint(1, 7)), (77, none), (0, elsewise)] {
        let ask = ClaimRequest { fingerprint: fingerprint(kept, 0xa5), ..probe.ask() };
        let other = || ClaimRequest { fingerprint: asked, ..probe.rival(ask) };
        let fence = probe.run(ask, "of an unknown record").await.fence;
        probe.in_flight(other(), "with a fingerprint of another scheme").await;
        probe.held(
            probe.complete(ask.record, fence, &Outcome::Response(answer.clone())).await,
            "a completion",
        );
        probe.replays(other(), &answer, "with a fingerprint of another scheme").await;
    }
    // The record keeps the fingerprint of its first claim, even after an heir whose fingerprint
    // matches all.
    for (ask, _) in probe.orphans(1).await {
        probe
            .run(
                ClaimRequest { fingerprint: none, ..probe.rival(ask) },
                "of an orphan, without a fingerprint",
            )
            .await;
        probe.mismatch(probe.stranger(ask), "by another request, after an heir without a fingerprint").await;
    }
}

/// Of two different requests with one key at once, one gets the record, and the other is a mismatch
/// from then on.
async fn strangers_at_once<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask();
    let claims = probe.race(8, |racer, store| {
        let request = if racer % 2 == 0 { probe.rival(ask) } else { probe.stranger(ask) };
        async move { Ok((racer % 2, store.claim(request).await?)) }
    });
    let claims = claims.await;
    let winner = claims.iter().find(|(_, claim)| matches!(claim, Claim::Run(_))).map(|(request, _)| request);
    let good = claims.iter().all(|(request, claim)| match claim {
        Claim::Run(_) | Claim::InFlight { .. } => Some(request) == winner,
        Claim::Mismatch => Some(request) != winner,
        _ => false,
    });
    probe.ensure(good, format_args!("of two requests under one key at once, both were let in: {claims:?}"));
}

pub(super) async fn release<H: Harness>(probe: &Probe<'_, H>) {
    // Without a checkpoint, nothing is left of the record.
    let ask = probe.ask();
    let fence = probe.run(ask, "of an unknown record").await.fence;
    probe.in_flight(probe.rival(ask), "before a release").await;
    probe.held(probe.release(ask.record, fence).await, "a release");
    let other = probe.stranger(ask);
    let run = probe.first(other, "by another request, after a release").await;
    probe.mismatch(probe.rival(ask), "by the released request, after another took the record").await;
    probe.held(probe.release(ask.record, run.fence).await, "a second release");
    probe.first(ask, "after a second release").await;

    // The same after takeovers.
    for (ask, _) in probe.orphans(1).await {
        let heir = probe.run(probe.rival(ask), "of an orphan").await;
        probe.held(probe.release(ask.record, heir.fence).await, "the release by an heir");
        probe.first(probe.stranger(ask), "after the release by an heir").await;
    }

    // With a checkpoint, the record is kept, and its attempts are counted further.
    let (ask, kept) = (probe.ask_for(1), checkpoint("kept"));
    let mut run = probe.run(ask, "of an unknown record").await;
    probe.held(probe.checkpoint(ask.record, run.fence, &kept).await, "a checkpoint");
    for _ in 0..3 {
        probe.held(probe.release(ask.record, run.fence).await, "a release");
        let when = "after a release with a checkpoint";
        probe.mismatch(probe.stranger(ask), format_args!("by another request, {when}")).await;
        run = probe.next(&run, ClaimRequest { lease: ask.lease, ..probe.rival(ask) }, &kept, when).await;
        probe.in_flight(probe.rival(ask), "beside one that followed a release").await;
    }
    probe.advance(1).await;
    // The heir of an orphan gets the checkpoint. After its release the next run gets it too, and is
    // no orphan.
    run = probe.run(probe.rival(ask), "of an orphan").await;
    probe.held(probe.release(ask.record, run.fence).await, "the release by an heir");
    probe.next(&run, probe.rival(ask), &kept, "after the release by an heir with a checkpoint").await;
}

pub(super) async fn checkpoint_kept<H: Harness>(probe: &Probe<'_, H>) {
    let (ask, mut latest) = (probe.ask_for(1), None);
    let mut run = probe.run(ask, "of an unknown record").await;
    for (n, next) in checkpoints().into_iter().enumerate() {
        for passing in [checkpoint("before"), next.clone()] {
            probe.held(probe.checkpoint(ask.record, run.fence, &passing).await, "a checkpoint");
        }
        latest = Some(next);
        // In turn after a takeover, a release, and both.
        let (lapses, released) = (n % 3 != 1, n % 3 != 0);
        if lapses {
            probe.advance(1).await;
            run = probe.run(ClaimRequest { lease: ask.lease, ..probe.rival(ask) }, "of an orphan").await;
            same_checkpoint(probe, run.checkpoint.as_ref(), latest.as_ref(), "of an orphan");
        }
        if released {
            probe.held(probe.release(ask.record, run.fence).await, "a release");
            run = probe.run(ClaimRequest { lease: ask.lease, ..probe.rival(ask) }, "after a release").await;
            same_checkpoint(probe, run.checkpoint.as_ref(), latest.as_ref(), "after a release");
        }
    }
    // A run that sets no checkpoint passes on the one it found.
    probe.advance(1).await;
    let heir = probe.run(probe.rival(ask), "of an orphan").await;
    same_checkpoint(probe, heir.checkpoint.as_ref(), latest.as_ref(), "of an orphan that set none");
}

fn checkpoints() -> Vec<Checkpoint> {
    let of =
        |name: &str, data: &[u8]| Checkpoint { name: name.to_owned(), data: Bytes::copy_from_slice(data) };
    let all_bytes = (0..=u8::MAX).collect::<Vec<_>>();
    vec![
        of("charged", b"ch_1"),
        of("", b"without a name"),
        of("without data", b""),
        of("", b""),
        of(" 'quoted\"\\\n\t%_;-- née ☃ 𝄞 ", &all_bytes),
        of(&"long ".repeat(50), &all_bytes.repeat(256)),
        of("Charged", b"\0"),
    ]
}

fn same_checkpoint<H: Harness>(
    probe: &Probe<'_, H>,
    seen: Option<&Checkpoint>,
    wanted: Option<&Checkpoint>,
    when: &str,
) {
    let shown = |checkpoint: Option<&Checkpoint>| checkpoint.map(|it| (it.name.clone(), it.data.len()));
    let (has, wants) = (shown(seen), shown(wanted));
    probe.ensure(
        seen == wanted,
        format_args!(
            "a claim {when} came with checkpoint {has:?} instead of {wants:?}, or its data were others"
        ),
    );
}

pub(super) async fn independence<H: Harness>(probe: &Probe<'_, H>) {
    each_goes_its_own_way(probe).await;
    for _ in 0..probe.rounds().div_ceil(10) {
        whole_lives_at_once(probe).await;
    }
}

/// Records whose names differ in one byte or one bit, to find a store that compares a part of the
/// name.
fn neighbours<H: Harness>(probe: &Probe<'_, H>) -> Vec<ClaimRequest> {
    let ask = probe.ask();
    let flipped = |at: usize| {
        let mut bytes = *ask.record.as_bytes();
        bytes[at] ^= 1 << (at % 8);
        ClaimRequest { record: RecordId::from_bytes(bytes), ..probe.rival(ask) }
    };
    (0..32).map(flipped).collect()
}

async fn each_goes_its_own_way<H: Harness>(probe: &Probe<'_, H>) {
    let asked = neighbours(probe);
    let mut fences = Vec::new();
    for ask in &asked {
        fences.push(probe.run(*ask, "of an unknown record beside others").await.fence);
    }
    let own = |n: usize| (response(&format!("response {n}")), checkpoint(&format!("checkpoint {n}")));
    for (n, (ask, fence)) in asked.iter().zip(&fences).enumerate() {
        let (answer, kept) = own(n);
        let held = match n % 5 {
            0 => probe.complete(ask.record, *fence, &Outcome::Response(answer)).await,
            1 => probe.complete(ask.record, *fence, &Outcome::Tombstone(Tombstone::Unknown)).await,
            2 => probe.release(ask.record, *fence).await,
            3 => probe.checkpoint(ask.record, *fence, &kept).await,
            _ => probe.extend(ask.record, *fence, probe.long() * 2).await,
        };
        probe.held(held, "a verb on one of many records");
    }
    let when = "of one record, after verbs on its neighbours";
    for (n, (ask, fence)) in asked.iter().zip(&fences).enumerate() {
        let (answer, kept) = own(n);
        match n % 5 {
            0 => probe.replays(probe.rival(*ask), &answer, when).await,
            1 => probe.buried(probe.rival(*ask), Tombstone::Unknown, when).await,
            2 => drop(probe.run(probe.stranger(*ask), when).await),
            verb => {
                let left = probe.in_flight(probe.rival(*ask), when).await;
                let extended = left > probe.long();
                probe.ensure(
                    extended == (verb == 4),
                    format_args!("a claim {when} was told {left:?} are left"),
                );
                probe.held(probe.release(ask.record, *fence).await, "a release");
                let found = probe.run(probe.rival(*ask), when).await.checkpoint;
                let good = found == (verb == 3).then_some(kept);
                probe.ensure(good, format_args!("a claim {when} came with {found:?}"));
            }
        }
    }
}

/// Claims, checkpoints, releases, claims, extends, completes and replays every record, all records
/// at once.
async fn whole_lives_at_once<H: Harness>(probe: &Probe<'_, H>) {
    let asked = neighbours(probe);
    let lives = probe.race(asked.len(), |n, store| {
        let (ask, again, last) = (asked[n], probe.rival(asked[n]), probe.rival(asked[n]));
        let (answer, kept) = (response(&format!("response {n}")), checkpoint(&format!("checkpoint {n}")));
        async move {
            let Claim::Run(first) = store.claim(ask).await? else { return Ok("a first claim was refused") };
            let steps = [
                store.checkpoint(ask.record, first.fence, kept.clone()).await?,
                store.release(ask.record, first.fence).await?,
            ];
            let Claim::Run(second) = store.claim(again).await? else {
                return Ok("a released record was refused");
            };
            if second.checkpoint != Some(kept) {
                return Ok("a record had not its own checkpoint");
            }
            let outcome = Outcome::Response(answer.clone());
            let more = [
                store.extend(ask.record, second.fence, ask.lease).await?,
                store.complete(ask.record, second.fence, outcome).await?,
            ];
            if steps.into_iter().chain(more).any(|fenced| fenced == Fenced::Stale) {
                return Ok("the verb of an owner was Stale");
            }
            Ok(match store.claim(last).await? {
                Claim::Replay { response: replay, .. } if replay == answer => "",
                _ => "a record had not its own response",
            })
        }
    });
    for wrong in lives.await {
        probe.ensure(wrong.is_empty(), format_args!("of many records in use at once, {wrong}"));
    }
}
