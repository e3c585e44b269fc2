//! Connections counted by the address they come from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections per address (`client.ip_connection_limit`). The lower half of an IPv6 address is its owner's to choose, so
/// those count by the upper half.
#[derive(Debug)]
pub(crate) struct AddressLimit {
    most: u32,
    taken: Taken,
}

type Taken = Arc<Mutex<HashMap<IpAddr, u32>>>;

/// One connection of an address, until dropped.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    address: IpAddr,
    taken: Taken,
}

impl AddressLimit {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place for one more connection, if the address has not reached the limit.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<AddressPlace> {
        let address = owner(address);
        let mut taken = self.taken.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(AddressPlace { address, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let limit = AddressLimit::new(2);
        let admit = |address: &str| limit.admit(address.parse().unwrap());
        let (first, _second) = (admit("192.0.2.1").unwrap(), admit("::ffff:192.0.2.1").unwrap());
        assert!(admit("192.0.2.1").is_none());
        let _other = admit("192.0.2.2").unwrap();
        drop(first);
        let _again = admit("192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_none());

        let _of_one = [admit("2001:db8::1").unwrap(), admit("2001:db8::ffff:2").unwrap()];
        assert!(admit("2001:db8:0:0:9::").is_none());
        let of_another = admit("2001:db8:0:1::1").unwrap();
        drop(of_another);
        assert_eq!(limit.taken.lock().len(), 3, "addresses without connections are forgotten");
    }
}
