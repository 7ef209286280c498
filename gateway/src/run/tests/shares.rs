//! Two gateways on one log share a limit.

use super::*;

async fn sharing(bus: &Bus, name: &str) -> Service {
    let deps = Deps {
        bus: bus.clone(),
        clock: Arc::new(SystemClock),
        keys: Arc::default(),
    };
    let config = Config {
        name: name.to_owned(),
        share: Some(true),
        ..Config::default()
    };
    let mut registry = Registry::default();
    let built = Service::build(config, deps, &mut registry);
    built.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_admit_no_more_than_one() {
    let (mut scene, _) = Scene::new().await;
    scene.put_policy(1, 10).await;
    let first = sharing(&scene.bus, "g1").await;
    scene.handle = first.handle();
    scene.ready = Box::new(first.readiness());
    scene.run(first).await;
    let asks = |handle: &Handle, tenant: &str| {
        let ask = Ask::default().with(Dimension::Tenant, tenant);
        usize::from(!handle.decide(ask).is_refused())
    };
    // One that is alone has all.
    let alone: usize = (0..30).map(|_| asks(&scene.handle, "alone")).sum();
    assert_eq!(alone, 10);

    let second = sharing(&scene.bus, "g2").await;
    let (other, ready) = (second.handle(), second.readiness());
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(second.run(stop.clone()));
    eventually(&ready).await;
    let both = |tenant| asks(&scene.handle, tenant) + asks(&other, tenant);
    let evenly: usize = (0..30).map(|_| both("evenly")).sum();
    assert_eq!(evenly, 10);
    // What one does not use it lends the other, before that asks for the last of it.
    let mut on_one = 0;
    eventually(|| {
        on_one += asks(&other, "on-one");
        on_one == 10
    })
    .await;
    assert_eq!(both("on-one"), 0);
    let metrics = &scene.handle.shared().metrics;
    eventually(|| metrics.share_members.get() == 2 && 0 < metrics.share_lent.get()).await;
    assert_eq!(metrics.share_overshoot.get(), 0.5);

    // In order: the first is at once alone, and has all of it when the window has passed.
    stop.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
    eventually(|| metrics.share_members.get() == 1).await;
    let left: usize = (0..30).map(|_| asks(&scene.handle, "left")).sum();
    assert_eq!(left, 5);
    drop(other);
    scene.end().await;
}
