use super::*;
use crate::testing;

/// Returns webhooks that may call any address.
fn webhooks(database: &Database) -> Arc<Webhooks> {
    Arc::new(testing::webhooks(&testing::platform(database)))
}

/// Opens a database, and adds an endpoint and a delivery to it.
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
    let event = WebhookEvent { account: &account, event: "happened", subject: "something" };
    webhooks.announce(transaction.connection(), event, || "{}".into()).await.unwrap();
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
async fn only_the_delivery_of_a_cancelled_cycle_fails() {
    for url in ["sqlite::memory:".to_owned(), private_postgres::shared_database()] {
        let (webhooks, delivery) = setup(&url).await;
        let account = delivery.endpoint.clone();
        let event = WebhookEvent { account: &account, event: "happened", subject: "something else" };
        let mut transaction = webhooks.database.begin().await.unwrap();
        webhooks.announce(transaction.connection(), event, || "{}".into()).await.unwrap();
        transaction.commit().await.unwrap();

        let mut handlers = Handlers::default();
        webhooks.register_handlers(&mut handlers);
        let scheduler = webhooks.cycles.scheduler(handlers.endings());
        let key = CycleKey::new(NAMESPACE, delivery.id.to_string());
        let _ = scheduler.cancel(&key).await.unwrap();
        for listed in all(&webhooks, &account).await {
            let expected =
                if listed.id == delivery.id { DeliveryStatus::Failed } else { DeliveryStatus::Pending };
            assert_eq!(listed.status, expected);
        }
    }
}
