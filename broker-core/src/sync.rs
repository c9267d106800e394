//! Locks, atomics and the shard's wake-up, from one place, so that the model test can run the hub under a scheduler of its own.
//!
//! What the model cannot see (the wakers of connections, the byte counters of inboxes) uses the standard types directly.

#[cfg(not(broker_model))]
mod imp {
    use std::task::Waker;

    use atomic_waker::AtomicWaker;

    /// A mutex that is not poisoned by a panic.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
            self.0.lock()
        }
    }

    /// Wakes one task.
    #[derive(Debug, Default)]
    pub(crate) struct Signal(AtomicWaker);

    impl Signal {
        pub(crate) fn wake(&self) {
            self.0.wake();
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register(waker);
        }
    }
}

#[cfg(broker_model)]
mod imp {
    use shuttle::sync::{Condvar, MutexGuard};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no thread of the model panics while it holds a lock")
        }
    }

    /// A permit that one thread waits for.
    #[derive(Debug, Default)]
    pub(crate) struct Signal {
        permit: shuttle::sync::Mutex<bool>,
        changed: Condvar,
    }

    impl Signal {
        pub(crate) fn wake(&self) {
            *self.permit.lock().expect("no thread of the model panics while it holds a lock") = true;
            self.changed.notify_one();
        }

        pub(crate) fn wait(&self) {
            let mut permit = self.permit.lock().expect("no thread of the model panics while it holds a lock");
            while !*permit {
                permit = self.changed.wait(permit).expect("no thread of the model panics while it holds a lock");
            }
            *permit = false;
        }
    }
}

pub(crate) use imp::{Mutex, Signal};
