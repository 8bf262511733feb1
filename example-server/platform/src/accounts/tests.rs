use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::api_key::Environment;
use crate::keys::{CreateKeyError, NewApiKey, create_key};
use crate::testing::Acme;
use crate::vendor::Caller;

async fn accounts(demo: bool) -> Accounts<Acme> {
    let database = Database::open("sqlite::memory:").await.unwrap();
    Accounts::new(Acme, database, demo)
}

fn key(digit: &str) -> ApiKey {
    ApiKey::parse(&Acme::KEY_FORMAT, &format!("acme_{}", digit.repeat(64))).unwrap()
}

async fn create(
    accounts: &Accounts<Acme>,
    plan: AccountPlan,
    permissions: &[Permission],
) -> Result<SecretString, CreateKeyError> {
    let permissions: Vec<_> = permissions.iter().map(ToString::to_string).collect();
    let environment = Environment::Live;
    let new = NewApiKey { account: "acme", plan, permissions: &permissions, environment };
    create_key(&accounts.database, &Acme::API, &new).await.map(|(_, key)| key)
}

#[tokio::test]
async fn a_new_key_is_found_with_its_permissions() {
    let accounts = accounts(false).await;
    let made = create(&accounts, AccountPlan::Basic, &[Acme::WRITE]).await.unwrap();
    let key = ApiKey::parse(&Acme::KEY_FORMAT, made.expose_secret()).unwrap();
    for _ in 0..2 {
        let user = accounts.find(&key).await.unwrap().unwrap();
        assert_eq!((&*user.owner.account, user.owner.plan), ("acme", AccountPlan::Basic));
        assert!(user.may(Acme::WRITE) && !user.may(Acme::READ));
    }
    let all = create(&accounts, AccountPlan::Basic, &[]).await.unwrap();
    let all = accounts
        .find(&ApiKey::parse(&Acme::KEY_FORMAT, all.expose_secret()).unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(Acme::PERMISSIONS.iter().copied().all(|permission| all.may(permission)));
}

#[tokio::test]
async fn an_account_stays_on_its_plan() {
    let accounts = accounts(false).await;
    create(&accounts, AccountPlan::Basic, &[]).await.unwrap();
    let refused = create(&accounts, AccountPlan::Pro, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("`basic`"), "{refused}");
}

#[tokio::test]
async fn one_key_has_one_bucket_however_it_is_found() {
    let accounts = accounts(false).await;
    let made = create(&accounts, AccountPlan::Free, &[]).await.unwrap();
    let key = ApiKey::parse(&Acme::KEY_FORMAT, made.expose_secret()).unwrap();
    let first = accounts.find(&key).await.unwrap().unwrap();
    let second = accounts.find(&key).await.unwrap().unwrap();
    assert!(std::ptr::eq(first.bucket(), second.bucket()));
}

#[tokio::test]
async fn the_public_keys_are_found_in_a_demo_only() {
    assert!(accounts(true).await.find(&key("1")).await.unwrap().is_some());
    assert!(accounts(false).await.find(&key("1")).await.unwrap().is_none());
}

#[tokio::test]
async fn both_prefixes_name_the_same_key() {
    let accounts = accounts(true).await;
    for prefix in ["acme_", "other_"] {
        let key = ApiKey::parse(&Acme::KEY_FORMAT, &format!("{prefix}{}", "1".repeat(64))).unwrap();
        assert_eq!(accounts.find(&key).await.unwrap().unwrap().owner.account, "demo");
    }
}

#[test]
fn a_malformed_key_is_refused() {
    let ones = "1".repeat(64);
    for text in ["", "acme_", &ones, &format!("acme_{ones}1"), &format!("acme_{}é", &ones[2..])] {
        assert!(ApiKey::parse(&Acme::KEY_FORMAT, text).is_none(), "{text}");
    }
}

#[test]
fn debug_output_shows_no_key() {
    let key = ApiKey::parse(&Acme::KEY_FORMAT, &format!("acme_{}", "1".repeat(64))).unwrap();
    assert!(!format!("{key:?}").contains("1111"));
}
