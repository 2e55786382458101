//! However it is written and whatever the server does in between: the log arrives whole.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// What the server does to one patch.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Good,
    Fails,
    StoresAndFails,
    Unknown,
    ClaimsOffset(u64),
}

fn moods() -> impl Strategy<Value = Vec<Mood>> {
    let mood = prop_oneof![
        4 => Just(Mood::Good),
        1 => Just(Mood::Fails),
        1 => Just(Mood::StoresAndFails),
        1 => Just(Mood::Unknown),
        1 => (0..5000_u64).prop_map(Mood::ClaimsOffset),
    ];
    prop::collection::vec(mood, 0..30)
}

/// Stores like a server, in the given mood for each patch in turn.
struct Moody {
    moods: Vec<Mood>,
    patches: AtomicUsize,
    stored: std::sync::Mutex<Vec<u8>>,
}

impl Moody {
    fn store(&self, patch: &TracePatch) -> PatchAnswer {
        let mut stored = self.stored.lock().unwrap();
        if patch.offset != stored.len() as u64 {
            return RangeMismatch {
                next: stored.len() as u64,
            };
        }
        stored.extend_from_slice(&patch.bytes);
        Accepted { next: patch.end() }
    }
}

impl JobCalls for Moody {
    async fn update_job(
        &self,
        _: &JobCredentials,
        update: &crate::JobUpdate,
    ) -> JobReply<UpdateAnswer> {
        let mut stored = self.stored.lock().unwrap();
        let extent = update.output.unwrap();
        let good = extent.len == stored.len() as u64 && extent.crc32 == crc32fast::hash(&stored);
        if update.state.is_final() && !good {
            stored.clear();
            return JobReply::plain(UpdateAnswer::Rewind);
        }
        JobReply::plain(UpdateAnswer::Ok)
    }

    async fn patch_trace(&self, _: &JobCredentials, patch: TracePatch) -> JobReply<PatchAnswer> {
        let number = self.patches.fetch_add(1, Ordering::Relaxed);
        let mood = self.moods.get(number).copied().unwrap_or(Mood::Good);
        JobReply::plain(match mood {
            Mood::Good => self.store(&patch),
            Mood::Fails => PatchAnswer::Failed(status(500)),
            Mood::StoresAndFails => {
                self.store(&patch);
                PatchAnswer::Failed(refused())
            }
            Mood::Unknown => NotFound,
            Mood::ClaimsOffset(next) => RangeMismatch { next },
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_log_arrives_whole_whatever_the_server_does_in_between(
        writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..600), 0..4000_u64), 0..12),
        moods in moods(),
        restart_at in prop::option::of(0..12_usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = Arc::new(Moody { moods, patches: 0.into(), stored: std::sync::Mutex::default() });
            let log = Arc::new(TestLog::default());
            let start = |sent| {
                let source = Arc::clone(&log) as Arc<dyn TraceSource>;
                let settings = UploadSettings::default();
                let mut upload = TraceUpload::new(Arc::clone(&server), credentials(), source, settings, sent);
                let stop = CancellationToken::new();
                let token = stop.clone();
                let task = tokio::spawn(async move { (upload.run(&token).await, upload) });
                (stop, task)
            };
            let (mut stop, mut task) = start(0);
            for (number, (bytes, pause)) in writes.iter().enumerate() {
                log.write(bytes);
                sleep(Duration::from_millis(*pause)).await;
                if restart_at == Some(number) {
                    stop.cancel();
                    let (_, upload) = task.await.unwrap();
                    let sent = *upload.sent().borrow();
                    (stop, task) = start(sent);
                }
            }
            log.finish();
            let (end, mut upload) = task.await.unwrap();
            assert_eq!(end, RunEnd::Finished);
            let outcome = upload
                .final_update(&Verdict::success(), &FinalPolicy::outbox(), &stop)
                .await;
            assert_eq!(outcome, FinalOutcome::Delivered);
            assert_eq!(*server.stored.lock().unwrap(), log.bytes());
        });
    }
}
