package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// How long a Service stays in quarantine: it doubles each time it is refused
// again.
const (
	firstQuarantine = time.Second
	lastQuarantine  = 5 * time.Minute
)

// inmate is a Service whose rules were refused.
type inmate struct {
	// svc is the version that was refused; nil if it was the deletion.
	svc   *model.Service
	wait  time.Duration
	until time.Time
}

// target returns the Services to have: those that are wanted, but for those in
// quarantine, which are to stay as they are.
func (f *programmer) target(want *model.ServiceMap, now time.Time) model.ServiceMap {
	changes := map[model.Name]*model.Service{}
	for n, in := range f.quarantine {
		switch svc := want.Get(n); {
		case svc != in.svc:
			f.release(n)
		case now.Before(in.until):
			changes[n] = f.applied.Get(n)
		}
	}
	return want.With(changes)
}

func (f *programmer) release(n model.Name) {
	f.log.Info("Service leaves quarantine", "family", f.family.String(), "service", n.String())
	delete(f.quarantine, n)
	f.metrics.quarantined.Set(float64(len(f.quarantine)))
}

// nextTry returns when the next Service in quarantine is due; zero if there is none.
func (f *programmer) nextTry() time.Time {
	var next time.Time
	for _, in := range f.quarantine {
		next = earlier(next, in.until)
	}
	return next
}

// search is one search for the Services that are to blame for a refusal.
type search struct {
	want *model.ServiceMap
	// good is what is accepted.
	good model.ServiceMap
	// try returns whether the kernel accepts services.
	try      func(services *model.ServiceMap) error
	culprits map[model.Name]error
}

// isolate brings in all of names but those that are to blame for the refusal of
// target, and puts these into quarantine.
func (f *programmer) isolate(ctx context.Context, target *model.ServiceMap, names []model.Name, now time.Time) error {
	s := search{want: target, good: f.applied, culprits: map[model.Name]error{}}
	commit := func(services *model.ServiceMap) error { return f.commit(ctx, services) }
	s.try = commit
	// A part of the Services cannot be tried where that takes away the others: before
	// all are in for the first time, or if the kernel cannot be brought back.
	blind := !f.begun || f.base == nil && commit(&f.applied) != nil
	if blind {
		s.try = func(services *model.ServiceMap) error { return f.tryOut(ctx, services) }
	}
	if err := s.split(names); err != nil {
		return err
	}
	err := commit(&s.good)
	if isRefusal(err) && blind {
		// The check had nothing against it but the kernel has. There is no way
		// left but to begin with nothing and add.
		s.good, s.try, s.culprits = model.ServiceMap{}, commit, map[model.Name]error{}
		if err := commit(&s.good); err != nil {
			return fmt.Errorf("even the rules for no Services are refused: %w", err)
		}
		if err := s.split(s.want.Diff(&s.good)); err != nil {
			return err
		}
		err = commit(&s.good)
	}
	if err != nil {
		return err
	}
	for n, err := range s.culprits {
		f.confine(n, target.Get(n), now, err)
	}
	f.accept(&s.good, s.good.Diff(&f.applied))
	return nil
}

// tryOut returns whether the rules of services would be accepted.
func (f *programmer) tryOut(ctx context.Context, services *model.ServiceMap) error {
	change := ruleset.Replace(f.renderer.Update(services), nil)
	if err := f.tables.CreateIPSets(ctx, change.Create); err != nil {
		return err
	}
	return f.tables.Check(ctx, change.Text())
}

func isRefusal(err error) bool {
	_, refused := errors.AsType[*iptables.RefusedError](err)
	return refused
}

// split brings names into good, dividing them until what is refused is a single
// Service. Its cost is the logarithm of the number of names for each culprit.
func (s *search) split(names []model.Name) error {
	if len(names) == 0 {
		return nil
	}
	changes := map[model.Name]*model.Service{}
	for _, n := range names {
		changes[n] = s.want.Get(n)
	}
	next := s.good.With(changes)
	err := s.try(&next)
	if err == nil {
		s.good = next
		return nil
	}
	if !isRefusal(err) {
		return err
	}
	if len(names) == 1 {
		s.culprits[names[0]] = err
		return nil
	}
	if err := s.split(names[:len(names)/2]); err != nil {
		return err
	}
	return s.split(names[len(names)/2:])
}

// confine puts a Service into quarantine, or keeps it there for longer.
func (f *programmer) confine(n model.Name, svc *model.Service, now time.Time, err error) {
	in := f.quarantine[n]
	if in != nil && in.svc == svc {
		in.wait = min(2*in.wait, lastQuarantine)
		in.until = now.Add(in.wait)
		f.log.Debug("Service is refused again", "family", f.family.String(), "service", n.String(), "error", err, "retryIn", in.wait)
		return
	}
	f.quarantine[n] = &inmate{svc: svc, wait: firstQuarantine, until: now.Add(firstQuarantine)}
	f.metrics.quarantined.Set(float64(len(f.quarantine)))
	outcome := "it keeps those it had"
	if f.applied.Get(n) == nil {
		outcome = "it has none"
	}
	f.log.Error("the rules of a Service are refused; "+outcome+", the others go on",
		"family", f.family.String(), "service", n.String(), "error", err)
	if svc == nil {
		svc = f.applied.Get(n)
	}
	if svc != nil {
		f.events.ServiceWarning(svc, ReasonRefused, fmt.Sprintf("%s rules are refused; %s: %v", f.family, outcome, err))
	}
}
