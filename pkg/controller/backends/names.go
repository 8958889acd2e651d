package backends

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/signpost-dev/signpost/pkg/controller/backends/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/model"
)

const (
	// lookAgain is when a name is resolved again. The resolver keeps what it found for
	// as long as that holds.
	lookAgain = 5 * time.Second
	// lookTimeout bounds how long it may take.
	lookTimeout = 5 * time.Second
)

// errNoAddress: the name exists, or not, and has no address.
var errNoAddress = errors.New("it has no address")

// names is what is known of the addresses of a Service's names.
type names struct {
	// families are those of the Service: of others nobody has to answer.
	families []corev1.IPFamily
	// found has the addresses that a name had last: they stay as long as it has no
	// others.
	found map[string][]netip.Addr
	// failed says why a name has none now.
	failed map[string]string
}

// named returns the sources that a Service's names make, and what of that cannot be
// used. As long as a name has not been resolved in this term, what is published for
// names in ours stays. c.mu is held.
func (c *Controller) named(s *state, svc *corev1.Service, wanted []string, ours []*discoveryv1.EndpointSlice) ([]*discoveryv1.EndpointSlice, []model.Problem) {
	if len(wanted) == 0 {
		s.names = names{}
		return nil, nil
	}
	if s.names.found == nil {
		s.names = names{found: map[string][]netip.Addr{}, failed: map[string]string{}}
	}
	s.names.families = svc.Spec.IPFamilies
	isOld := func(name string) bool { return !slices.Contains(wanted, name) }
	maps.DeleteFunc(s.names.found, func(name string, _ []netip.Addr) bool { return isOld(name) })
	maps.DeleteFunc(s.names.failed, func(name, _ string) bool { return isOld(name) })
	var addresses []netip.Addr
	var problems []model.Problem
	complete, tried := true, true
	for _, name := range wanted {
		found, known := s.names.found[name]
		why, failed := s.names.failed[name]
		addresses = append(addresses, found...)
		complete, tried = complete && known, tried && (known || failed)
		if failed {
			problems = append(problems, model.Problem{Field: name, Message: why})
		}
	}
	if !complete {
		addresses = append(addresses, plan.NamedIn(ours)...)
	}
	if !s.resolves || !tried {
		s.resolves = true
		c.resolving.Add(ledger.Key{Namespace: svc.Namespace, Name: svc.Name})
	}
	sources, wrong := plan.FromNames(svc, addresses)
	return sources, append(problems, wrong...)
}

// resolve resolves a Service's names, and has it planned anew if they have other
// addresses. It comes again as long as the Service has names.
func (c *Controller) resolve(ctx context.Context, k ledger.Key) {
	c.mu.Lock()
	s := c.services[k]
	var wanted []string
	var families []corev1.IPFamily
	if s != nil {
		wanted, families = s.request.Names, s.names.families
		s.resolves = len(wanted) > 0
	}
	c.mu.Unlock()
	news := false
	for _, name := range wanted {
		found, err := c.lookUp(ctx, name, families)
		if ctx.Err() != nil {
			return
		}
		news = c.found(k, name, found, err) || news
	}
	if news {
		c.queue.Add(k)
	}
	if len(wanted) > 0 {
		c.resolving.AddAfter(k, lookAgain)
	}
}

// lookUp returns the addresses of a name, or why they are not known: of all families,
// lest those of one be taken away because nobody answers for it.
func (c *Controller) lookUp(ctx context.Context, name string, families []corev1.IPFamily) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var out []netip.Addr
	for _, family := range families {
		found, err := c.options.Resolver.Resolve(ctx, name, family == corev1.IPv4Protocol)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	if len(out) == 0 {
		return nil, errNoAddress
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// found takes in what was found for a name, and says whether that is news.
func (c *Controller) found(k ledger.Key, name string, addresses []netip.Addr, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[k]
	if s == nil || s.names.found == nil || !slices.Contains(s.request.Names, name) {
		return false
	}
	was, failed := s.names.failed[name]
	if err != nil {
		s.names.failed[name] = err.Error()
		return was != err.Error()
	}
	delete(s.names.failed, name)
	if before, known := s.names.found[name]; known && !failed && slices.Equal(before, addresses) {
		return false
	}
	s.names.found[name] = addresses
	return true
}
