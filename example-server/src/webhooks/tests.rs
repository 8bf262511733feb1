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
async fn setup(url: &str) -> (Arc<Webhooks>, Delivery) {
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
    let [delivery] = &all(&webhooks, &account).await[..] else { panic!("one was announced") };
    (webhooks, delivery.clone())
}

async fn all(webhooks: &Webhooks, account: &str) -> Vec<Delivery> {
    let mut reader = webhooks.database.read().await.unwrap();
    let wanted = deliveries::Wanted::default();
    deliveries::page(reader.connection(), account, &wanted, (100, 0)).await.unwrap().0
}

#[tokio::test]
async fn a_delivery_whose_cycle_ended_without_it_is_given_up_and_no_other() {
    for url in ["sqlite::memory:".to_owned(), private_postgres::shared_database()] {
        let (webhooks, delivery) = setup(&url).await;
        let account = delivery.endpoint.clone();
        let news = News { account: &account, event: "happened", subject: "something else" };
        let mut transaction = webhooks.database.begin().await.unwrap();
        webhooks.announce(transaction.connection(), news, || "{}".into()).await.unwrap();
        transaction.commit().await.unwrap();

        let mut handlers = Handlers::default();
        webhooks.attempts(&mut handlers, 1);
        let scheduler = webhooks.cycles.scheduler(handlers.endings());
        let key = CycleKey::new(NAMESPACE, delivery.id.to_string());
        let _ = scheduler.cancel(&key).await.unwrap();
        for shown in all(&webhooks, &account).await {
            let expected =
                if shown.id == delivery.id { DeliveryStatus::Failed } else { DeliveryStatus::Pending };
            assert_eq!(shown.status, expected);
        }
    }
}

/// What it takes to send letters, to public addresses and with a key that nobody keeps.
pub(crate) fn telling() -> Telling {
    let outbound = Outbound::new(Rules { allow_http: false, allow_private: false }).unwrap();
    let sealer = Arc::new(Sealer::new(Some(&"1".repeat(64).into()), None).unwrap());
    Telling { outbound, sealer, demo: true, in_flight: Arc::default() }
}
