use http::HeaderMap;

use super::*;

/// Webhooks of the default configuration, which may call anybody.
pub(crate) fn webhooks(database: &Database) -> Arc<Webhooks> {
    let rules = Rules { allow_http: true, allow_private: true };
    let sealer = Arc::new(Sealer::new(None, None).unwrap());
    let config = config::Config::load(None).unwrap().veriko.webhooks;
    let webhooks = Webhooks::new(database.clone(), sealer, rules, &config, |_, _, _| HeaderMap::new());
    Arc::new(webhooks.unwrap())
}

/// Each database with an endpoint of `demo`, and a delivery to it.
async fn setup(url: &str) -> (Arc<Webhooks>, DeliveryId) {
    let database = Database::open(url).await.unwrap();
    let webhooks = webhooks(&database);
    let now = clock::timestamp();
    let id = uuid::Uuid::new_v4();
    let endpoint = Endpoint {
        id,
        account: id.to_string(),
        url: "http://127.0.0.1:9/".into(),
        events: vec!["happened".into()],
        description: None,
        status: EndpointStatus::Active,
        secret: webhooks.seal(&id.to_string(), "secret").unwrap(),
        secret_hint: String::new(),
        consecutive_failures: 0,
        last_delivery_at: None,
        created_at: now,
        updated_at: now,
    };
    let mut transaction = database.begin().await.unwrap();
    assert!(endpoints::insert(transaction.connection(), &endpoint, 1).await.unwrap());
    let account = id.to_string();
    let news = News { account: &account, event: "happened", subject: "something" };
    webhooks.announce(transaction.connection(), news, || "{}".into()).await.unwrap();
    transaction.commit().await.unwrap();
    let listed = open(&webhooks).await;
    (webhooks, *listed.last().unwrap())
}

async fn open(webhooks: &Webhooks) -> Vec<DeliveryId> {
    let mut reader = webhooks.database.read().await.unwrap();
    deliveries::overdue(reader.connection(), i64::MAX, DeliveryId(0), 100).await.unwrap()
}

#[tokio::test]
async fn a_delivery_whose_cycle_ended_without_it_is_given_up_and_no_other() {
    for url in ["sqlite::memory:".to_owned(), private_postgres::shared_database()] {
        let (webhooks, id) = setup(&url).await;
        webhooks.catch_up(i64::MAX).await.unwrap();
        assert_eq!(open(&webhooks).await, [id], "its cycle is pending");
        let key = CycleKey::new(NAMESPACE, id.to_string());
        webhooks.cycles.scheduler().cancel(&key).await.unwrap();
        webhooks.catch_up(0).await.unwrap();
        assert_eq!(open(&webhooks).await, [id], "it may be under way");
        webhooks.catch_up(i64::MAX).await.unwrap();
        assert_eq!(open(&webhooks).await, []);
    }
}

/// What it takes to send letters, to public addresses and with a key that nobody keeps.
pub(crate) fn telling() -> Telling {
    let outbound = Outbound::new(Rules { allow_http: false, allow_private: false }).unwrap();
    let sealer = Arc::new(Sealer::new(Some(&"1".repeat(64).into()), None).unwrap());
    Telling { outbound, sealer, demo: true, in_flight: Arc::default() }
}
