//! Between tenants.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::{MINUTE, SECOND, Seen, World, assert_at, assert_by, start, success, until, worker};

#[tokio::test(start_paused = true)]
async fn one_tenant_with_thousands_due_does_not_keep_another_waiting() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..5_000 {
        world.due("large", &n.to_string()).await;
    }
    sleep(MINUTE).await;
    let small = world.due("small", "the one").await;
    let handler = seen.handler(|_| async {
        sleep(10 * SECOND).await;
        success()
    });
    let running = start(worker(&world.view(), handler).concurrency(4));
    until("the small tenant's", || seen.starts().iter().any(|start| start.tenant == "small")).await;
    let its = seen.starts().into_iter().find(|start| start.tenant == "small").unwrap();
    assert_at(its.at, MINUTE);
    until("its end", || running.handle.snapshot().attempts.succeeded >= 3).await;
    assert!(world.ending(&small).await.is_some());
    running.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_comes_while_another_has_every_place_has_one_of_the_next_that_are_free() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..100 {
        world.due("large", &n.to_string()).await;
    }
    let handler = seen.handler(|_| async {
        sleep(MINUTE).await;
        success()
    });
    let running = start(worker(&world.view(), handler).concurrency(4));
    sleep(10 * SECOND + SECOND / 2).await;
    world.due("small", "the one").await;
    running.handle.wake();
    until("the small tenant's", || seen.starts().iter().any(|start| start.tenant == "small")).await;
    let its = seen.starts().into_iter().find(|start| start.tenant == "small").unwrap();
    assert_at(its.at, MINUTE);
    assert!(seen.runs() <= 8);
    running.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_alone_has_all_places() {
    for concurrency in [1, 2, 5, 8] {
        let (world, seen) = (World::new(), Seen::new());
        for n in 0..20 {
            world.due("tenant", &n.to_string()).await;
        }
        let handler = seen.handler(|_| async {
            sleep(SECOND).await;
            success()
        });
        let running = start(worker(&world.view(), handler).concurrency(concurrency));
        until("all", || running.handle.snapshot().attempts.succeeded == 20).await;
        assert_eq!(seen.peak(), concurrency);
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_alone_has_the_sixteen_places_of_a_worker_with_nothing_set() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..100 {
        world.due("tenant", &n.to_string()).await;
    }
    let handler = seen.handler(|_| async {
        sleep(SECOND).await;
        success()
    });
    let running = start(worker(&world.view(), handler));
    sleep(SECOND / 2).await;
    assert_eq!((seen.running(), running.handle.snapshot().running), (16, 16));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_place_that_a_tenant_frees_is_taken_again_at_once() {
    let (world, seen) = (World::new(), Seen::new());
    for n in 0..6 {
        world.due("tenant", &n.to_string()).await;
    }
    let handler = seen.handler(|_| async {
        sleep(10 * SECOND).await;
        success()
    });
    let running = start(worker(&world.view(), handler).concurrency(4).poll(Duration::from_hours(1)));
    until("all", || running.handle.snapshot().attempts.succeeded == 6).await;
    assert_by(world.age(), 20 * SECOND);
    running.stop().await;
}
