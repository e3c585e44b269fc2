//! The connections of a node by client id and by user, across its workers.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use uuid::Uuid;

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) worker: u16,
    pub(crate) slot: u32,
}

/// The connections of one user.
type Places = SmallVec<[(Uuid, Place); 1]>;

#[derive(Default)]
struct Tables {
    /// Nearly every user has one connection.
    users: HashMap<Arc<str>, Places, foldhash::fast::RandomState>,
    /// All anonymous connections are one "user" of any size, so these are a map.
    anonymous: HashMap<Uuid, Place, foldhash::fast::RandomState>,
    /// Connections whose commands come by requests of their own, by session.
    sessions: HashMap<Uuid, (Uuid, Place), foldhash::fast::RandomState>,
    connections: usize,
}

/// One short lock; taken when a connection is accepted or ends and by calls that address users, never per message.
#[derive(Default)]
pub(crate) struct Registry {
    tables: Mutex<Tables>,
}

/// Why a connection was not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserLimitReached;

impl Registry {
    /// Adds a connection, unless its (non-empty) user has `user_limit` already; 0: no limit. Returns the user's name as
    /// shared by all his connections.
    pub(crate) fn add(
        &self,
        client: Uuid,
        user: &str,
        place: Place,
        user_limit: usize,
    ) -> Result<Arc<str>, UserLimitReached> {
        let tables = &mut *self.tables.lock();
        if user.is_empty() {
            tables.anonymous.insert(client, place);
            tables.connections += 1;
            return Ok(Arc::default());
        }
        let shared = match tables.users.get_key_value(user) {
            Some((_, places)) if user_limit > 0 && places.len() >= user_limit => {
                return Err(UserLimitReached);
            }
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(user),
        };
        tables.users.entry(Arc::clone(&shared)).or_default().push((client, place));
        tables.connections += 1;
        Ok(shared)
    }

    /// Removes a connection.
    pub(crate) fn remove(&self, client: Uuid, user: &str) {
        let tables = &mut *self.tables.lock();
        if user.is_empty() {
            tables.connections -= usize::from(tables.anonymous.remove(&client).is_some());
            return;
        }
        let Some(places) = tables.users.get_mut(user) else {
            return;
        };
        let before = places.len();
        places.retain(|(other, _)| *other != client);
        tables.connections -= before - places.len();
        if places.is_empty() {
            tables.users.remove(user);
        }
    }

    /// Makes a connection known by its session as well.
    pub(crate) fn add_session(&self, session: Uuid, client: Uuid, place: Place) {
        self.tables.lock().sessions.insert(session, (client, place));
    }

    /// Forgets a session.
    pub(crate) fn remove_session(&self, session: Uuid) {
        self.tables.lock().sessions.remove(&session);
    }

    /// The connection of a session, and where it is.
    pub(crate) fn session(&self, session: Uuid) -> Option<(Uuid, Place)> {
        self.tables.lock().sessions.get(&session).copied()
    }

    /// Where a user's connections are.
    pub(crate) fn user(&self, user: &str) -> Vec<(Uuid, Place)> {
        let tables = self.tables.lock();
        if user.is_empty() {
            return tables.anonymous.iter().map(|(client, place)| (*client, *place)).collect();
        }
        tables.users.get(user).map(|places| places.to_vec()).unwrap_or_default()
    }

    /// Connections and distinct users; the anonymous count as one.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let tables = self.tables.lock();
        (tables.connections, tables.users.len() + usize::from(!tables.anonymous.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_limit_counts_only_named_users() {
        let registry = Registry::default();
        let place = |slot| Place { worker: 0, slot };
        let ids: Vec<Uuid> = (0..4).map(Uuid::from_u128).collect();
        assert!(registry.add(ids[0], "u", place(0), 1).is_ok());
        assert_eq!(registry.add(ids[1], "u", place(1), 1), Err(UserLimitReached));
        assert!(registry.add(ids[2], "", place(2), 1).is_ok());
        assert!(registry.add(ids[3], "", place(3), 1).is_ok());
        registry.remove(ids[0], "u");
        assert!(registry.user("u").is_empty());
        assert_eq!(registry.counts(), (2, 1));
        assert!(registry.add(ids[1], "u", place(1), 1).is_ok());
    }
}
