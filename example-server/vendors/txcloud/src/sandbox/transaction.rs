//! Transactions: rules that change a risk score.

use rust_decimal::Decimal;

use super::{Rule, triggered};
use crate::engines::RiskScore;
use crate::engines::transaction::{
    Case, Checks, Passed, RuleTriggered, Score, Signals, TransactionDecision, TransactionType,
};

/// The points that each transaction starts with.
pub(super) const BASE: i32 = 200;

/// The vendor's table: the highest score of each decision.
pub(super) const DECISIONS: &[(u16, TransactionDecision)] = &[
    (300, TransactionDecision::Approve),
    (600, TransactionDecision::Review),
    (800, TransactionDecision::Challenge),
    (1000, TransactionDecision::Decline),
];

/// The group of a rule: one of the `checks` of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Velocity,
    Amount,
    Recipient,
    Device,
}

#[cfg(test)]
impl Group {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Velocity => "velocity",
            Self::Amount => "amount",
            Self::Recipient => "recipient",
            Self::Device => "device",
        }
    }
}

/// The effect of a rule: a positive weight raises the risk, a negative one lowers it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    pub(super) group: Group,
    pub(super) weight: i32,
}

const fn adds(group: Group, weight: i32) -> Effect {
    Effect { group, weight }
}

/// The number of transactions a day that is not suspicious.
const USUAL_DAILY_COUNT: u32 = 10;

/// Amounts are compared as numbers, whatever the currency. The weights of the signals that the
/// vendor documents are within its ranges.
pub(super) const RULES: &[Rule<Case, Effect>] = &[
    Rule {
        name: "normal_amount",
        when: "`amount` is at most 10000",
        holds: |case| !above(case, 10_000),
        effect: adds(Group::Amount, -20),
        why: "Such amounts are common.",
    },
    Rule {
        name: "unusual_amount",
        when: "`amount` is more than 10000",
        holds: |case| above(case, 10_000),
        effect: adds(Group::Amount, 150),
        why: "Such amounts are rare.",
    },
    Rule {
        name: "very_high_amount",
        when: "`amount` is more than 100000",
        holds: |case| above(case, 100_000),
        effect: adds(Group::Amount, 200),
        why: "Such amounts are very rare; the points are added to those of `unusual_amount`.",
    },
    Rule {
        name: "international_transfer",
        when: "`type` is `international_transfer`",
        holds: |case| case.kind == TransactionType::InternationalTransfer,
        effect: adds(Group::Recipient, 100),
        why: "Money sent abroad is hard to recover.",
    },
    Rule {
        name: "cash_withdrawal",
        when: "`type` is `cash_withdrawal`",
        holds: |case| case.kind == TransactionType::CashWithdrawal,
        effect: adds(Group::Amount, 50),
        why: "Cash cannot be traced.",
    },
    Rule {
        name: "blocked_recipient",
        when: "`recipient.value` ends with `-BLOCKED`",
        holds: |case| case.recipient.value.as_ref().is_some_and(|value| value.ends_with("-BLOCKED")),
        effect: adds(Group::Recipient, 1000),
        why: "The recipient is known for fraud.",
    },
    Rule {
        name: "known_recipient",
        when: "`context.known_recipient` is true",
        holds: |case| case.context.known_recipient == Some(true),
        effect: adds(Group::Recipient, -50),
        why: "The sender has paid this recipient before.",
    },
    Rule {
        name: "new_recipient",
        when: "`context.known_recipient` is false",
        holds: |case| case.context.known_recipient == Some(false),
        effect: adds(Group::Recipient, 75),
        why: "The sender has never paid this recipient.",
    },
    Rule {
        name: "trusted_device",
        when: "`context.known_device` is true",
        holds: |case| case.context.known_device == Some(true),
        effect: adds(Group::Device, -50),
        why: "The device is known.",
    },
    Rule {
        name: "new_device",
        when: "`context.known_device` is false",
        holds: |case| case.context.known_device == Some(false),
        effect: adds(Group::Device, 50),
        why: "The device is seen for the first time.",
    },
    Rule {
        name: "vpn_detected",
        when: "`context.vpn` is true",
        holds: |case| case.context.vpn == Some(true),
        effect: adds(Group::Device, 150),
        why: "The connection hides its origin.",
    },
    Rule {
        name: "rooted_device",
        when: "`context.rooted` is true",
        holds: |case| case.context.rooted == Some(true),
        effect: adds(Group::Device, 200),
        why: "The device's protection is disabled.",
    },
    Rule {
        name: "emulator",
        when: "`context.emulator` is true",
        holds: |case| case.context.emulator == Some(true),
        effect: adds(Group::Device, 300),
        why: "The device is emulated.",
    },
    Rule {
        name: "unusual_time",
        when: "`context.hour` is 0 to 4",
        holds: |case| case.context.hour.is_some_and(|hour| hour < 5),
        effect: adds(Group::Velocity, 75),
        why: "Transactions are unusual at this hour.",
    },
    Rule {
        name: "velocity_exceeded",
        when: "`context.daily_count` is more than 10",
        holds: |case| case.context.daily_count.is_some_and(|count| count > USUAL_DAILY_COUNT),
        effect: adds(Group::Velocity, 300),
        why: "There were many transactions today.",
    },
];

fn above(case: &Case, amount: u32) -> bool {
    case.amount.value() > Decimal::from(amount)
}

pub(super) fn judge(case: &Case) -> Score {
    let found: Vec<_> = triggered(RULES, case).collect();
    let risk_score = RiskScore::clamped(BASE + found.iter().map(|rule| rule.effect.weight).sum::<i32>());
    let decided = DECISIONS.iter().find(|(most, _)| risk_score.points() <= *most);
    let named = |against: bool| -> Vec<_> {
        found.iter().filter(|rule| (rule.effect.weight > 0) == against).map(|rule| rule.name).collect()
    };
    let passed = |group| {
        let against = found.iter().any(|rule| rule.effect.group == group && rule.effect.weight > 0);
        Passed { passed: !against }
    };
    Score {
        decision: decided.map_or(TransactionDecision::Decline, |(_, decision)| *decision),
        risk_score,
        risk_level: risk_score.level(),
        signals: Signals { positive: named(false), negative: named(true) },
        checks: Checks {
            velocity: passed(Group::Velocity),
            amount: passed(Group::Amount),
            recipient: passed(Group::Recipient),
            device: passed(Group::Device),
        },
        rules_triggered: found
            .iter()
            .filter(|rule| rule.effect.weight > 0)
            .map(|rule| RuleTriggered { code: rule.name, weight: rule.effect.weight, description: rule.why })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::transaction::{Context, Recipient, Sender};
    use crate::money::Money;

    fn case(amount: &str) -> Case {
        Case {
            transaction_id: None,
            amount: Money::read(amount, None).unwrap(),
            currency: "MAD".parse().unwrap(),
            kind: TransactionType::P2pTransfer,
            sender: Sender::default(),
            recipient: Recipient::default(),
            context: Context::default(),
        }
    }

    /// A change to a plain case, the points that it adds, and the name of its rule.
    type Row = (fn(&mut Case), i32, &'static str);

    #[test]
    fn each_rule_adds_the_points_in_its_row() {
        let rows: [Row; 11] = [
            (|case| case.kind = TransactionType::InternationalTransfer, 100, "international_transfer"),
            (|case| case.kind = TransactionType::CashWithdrawal, 50, "cash_withdrawal"),
            (|case| case.context.known_recipient = Some(true), -50, "known_recipient"),
            (|case| case.context.known_recipient = Some(false), 75, "new_recipient"),
            (|case| case.context.known_device = Some(true), -50, "trusted_device"),
            (|case| case.context.known_device = Some(false), 50, "new_device"),
            (|case| case.context.vpn = Some(true), 150, "vpn_detected"),
            (|case| case.context.rooted = Some(true), 200, "rooted_device"),
            (|case| case.context.emulator = Some(true), 300, "emulator"),
            (|case| case.context.hour = Some(4), 75, "unusual_time"),
            (|case| case.context.daily_count = Some(11), 300, "velocity_exceeded"),
        ];
        for (change, weight, name) in rows {
            let mut changed = case("100");
            change(&mut changed);
            let score = judge(&changed);
            assert_eq!(i32::from(score.risk_score.points()), 180 + weight, "{name}");
            let signals = if weight > 0 { &score.signals.negative } else { &score.signals.positive };
            assert!(signals.contains(&name), "{name}: {signals:?}");
            assert_eq!(score.rules_triggered.iter().any(|rule| rule.code == name), weight > 0, "{name}");
        }
        for change in [
            (|case| case.context.hour = Some(5)) as fn(&mut Case),
            |case| case.context.daily_count = Some(10),
            |case| case.context.vpn = Some(false),
            |case| case.recipient.value = Some("BLOCKED".into()),
        ] {
            let mut changed = case("100");
            change(&mut changed);
            assert_eq!(judge(&changed), judge(&case("100")));
        }
    }

    #[test]
    fn an_amount_is_compared_to_the_last_digit() {
        for (amount, points) in
            [("0.01", 180), ("10000", 180), ("10000.0001", 350), ("100000", 350), ("100000.01", 550)]
        {
            assert_eq!(judge(&case(amount)).risk_score.points(), points, "{amount}");
        }
    }

    #[test]
    fn the_score_determines_the_decision() {
        use TransactionDecision::{Approve, Challenge, Decline, Review};
        let mut with = case("100000.01");
        for (change, points, decision) in [
            ((|_| ()) as fn(&mut Case), 550, Review),
            (|case| case.context.known_device = Some(false), 600, Review),
            (|case| case.kind = TransactionType::InternationalTransfer, 700, Challenge),
            (|case| case.context.known_recipient = Some(false), 775, Challenge),
            (|case| case.context.vpn = Some(true), 925, Decline),
            (|case| case.recipient.value = Some("x-BLOCKED".into()), 1000, Decline),
        ] {
            change(&mut with);
            let score = judge(&with);
            assert_eq!((score.risk_score.points(), score.decision), (points, decision));
        }
        assert_eq!(judge(&case("1")).decision, Approve);
    }

    #[test]
    fn a_group_passes_unless_one_of_its_rules_adds_points() {
        let mut risky = case("1");
        risky.context.vpn = Some(true);
        let checks = judge(&risky).checks;
        assert!(
            !checks.device.passed
                && checks.amount.passed
                && checks.recipient.passed
                && checks.velocity.passed
        );
    }
}
