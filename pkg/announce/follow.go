package announce

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// watchLinks returns a channel that receives when links may have changed. Without
// it they are read from time to time.
func (a *Announcer) watchLinks(ctx context.Context) <-chan struct{} {
	links, addresses := make(chan netlink.LinkUpdate, 16), make(chan netlink.AddrUpdate, 16)
	failed := func(err error) { a.options.Log.Debug("interfaces are not followed, only read", "error", err) }
	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ErrorCallback: failed}); err != nil {
		failed(err)
		links = nil
	}
	if err := netlink.AddrSubscribeWithOptions(addresses, ctx.Done(), netlink.AddrSubscribeOptions{ErrorCallback: failed}); err != nil {
		failed(err)
		addresses = nil
	}
	out := make(chan struct{}, 1)
	tell := func() {
		select {
		case out <- struct{}{}:
		default:
		}
	}
	go func() { // ends when both have, which they do with ctx
		for links != nil || addresses != nil {
			select {
			case _, ok := <-links:
				if tell(); !ok {
					links = nil
				}
			case _, ok := <-addresses:
				if tell(); !ok {
					addresses = nil
				}
			}
		}
	}()
	return out
}

// lookAtLinks reads the links if it is time to, and says whether there is
// something new about them.
func (a *Announcer) lookAtLinks(now time.Time) bool {
	every := relook
	if a.unopened {
		every = idle
	}
	if now.Sub(a.linksAt) < every {
		return false
	}
	a.linksAt = now
	links, mine, err := readLinks()
	a.tell("read the interfaces of this node", err)
	if err != nil {
		return false
	}
	same := slices.EqualFunc(a.links, links, func(a, b link) bool { return a.equal(&b) })
	same = same && maps.Equal(a.mine, mine)
	a.links, a.mine = links, mine
	return !same || a.unopened
}

// follow has a place for each address that is wished, and a port for each link
// that one of them is at.
func (a *Announcer) follow(now time.Time, wishes *Wishes) {
	placed, wanted := map[netip.Addr][]int{}, map[int]bool{}
	for address, wish := range wishes.Addresses {
		if placed[address] = nil; a.mine[address] {
			continue // the kernel answers for it already, whatever is decided here
		}
		placed[address] = at(a.links, address, wish.Interfaces, wishes.Own)
		for _, index := range placed[address] {
			wanted[index] = true
		}
	}
	a.followPorts(wanted)
	groups := map[int][]netip.Addr{}
	a.mu.Lock()
	for address := range a.places {
		if _, still := placed[address]; !still {
			delete(a.places, address)
		}
	}
	for address, at := range placed {
		at = slices.DeleteFunc(at, func(index int) bool { return a.ports[index] == nil })
		if a.places[address] == nil {
			a.places[address] = &place{next: now}
		}
		a.places[address].placed(now, wishes.Addresses[address], at)
		for _, index := range at {
			groups[index] = append(groups[index], address)
		}
	}
	a.stale = true
	a.mu.Unlock()
	for index, p := range a.ports {
		a.tell("hear questions at "+p.link.name, p.groups.follow(groups[index]))
	}
}

// followPorts opens and closes ports.
func (a *Announcer) followPorts(wanted map[int]bool) {
	var closed []*port
	opened := map[int]*port{}
	a.unopened = false
	for index := range wanted {
		l := a.links[slices.IndexFunc(a.links, func(l link) bool { return l.index == index })]
		if is := a.ports[index]; is != nil && is.link.equal(&l) {
			opened[index] = is
			continue
		}
		p, err := openPort(l, a)
		a.tell("announce at "+l.name, err)
		if err != nil {
			a.unopened = true
			continue
		}
		opened[index] = p
	}
	for index, p := range a.ports {
		if opened[index] != p {
			closed = append(closed, p)
		}
	}
	a.mu.Lock()
	a.ports = opened
	for _, mac := range a.own() {
		a.macs[mac] = true
	}
	a.mu.Unlock()
	for _, p := range closed {
		p.close()
	}
}
