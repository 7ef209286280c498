package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func groupCases() []testCase {
	return []testCase{
		{"a group of two shares cooperatively", cooperative},
		{"a static member keeps its partitions", staticMember},
		{"a static member is fenced by its successor", fenced},
		{"commit and resume", commitAndResume},
	}
}

// A member is a client in a group, and what was given to it and taken from it.
type member struct {
	client *kgo.Client
	lock   sync.Mutex
	parts  map[int32]bool
	lost   map[int32]bool
	given  int
}

func join(l *lab, group, topic string, options ...kgo.Opt) (*member, error) {
	m := &member{parts: map[int32]bool{}, lost: map[int32]bool{}}
	given := func(_ context.Context, _ *kgo.Client, places map[string][]int32) {
		m.lock.Lock()
		defer m.lock.Unlock()
		m.given++
		for _, partition := range places[topic] {
			m.parts[partition] = true
		}
	}
	taken := func(_ context.Context, _ *kgo.Client, places map[string][]int32) {
		m.lock.Lock()
		defer m.lock.Unlock()
		for _, partition := range places[topic] {
			delete(m.parts, partition)
			m.lost[partition] = true
		}
	}
	watching := []kgo.Opt{
		kgo.OnPartitionsAssigned(given), kgo.OnPartitionsRevoked(taken), kgo.OnPartitionsLost(taken),
	}
	client, err := l.group(group, topic, append(watching, options...)...)
	m.client = client
	return m, err
}

func (m *member) has() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Sorted(maps.Keys(m.parts))
}

// taken tells the partitions that were taken since the last call.
func (m *member) taken() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	taken := slices.Sorted(maps.Keys(m.lost))
	m.lost = map[int32]bool{}
	return taken
}

func (m *member) assignments() int {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.given
}

// A place of a record.
type place struct {
	partition int32
	offset    int64
}

// turn lets members read and commit until a thing holds. No record may be read twice.
func turn(what string, seen map[place]bool, holds func() bool, members ...*member) error {
	return until(what, func() (bool, error) {
		for _, m := range members {
			records, err := poll(m.client)
			if err != nil {
				return false, err
			}
			for _, record := range records {
				at := place{record.Partition, record.Offset}
				if seen[at] {
					return false, fmt.Errorf("%+v was read twice", at)
				}
				seen[at] = true
			}
		}
		return holds(), nil
	})
}

func cooperative(l *lab) error {
	topic, err := l.topic(4)
	if err != nil {
		return err
	}
	if err := l.send(topic, 4, 200); err != nil {
		return err
	}
	options := []kgo.Opt{
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(100 * time.Millisecond),
	}
	group, seen := l.name("group"), map[place]bool{}
	a, err := join(l, group, topic, options[0])
	if err != nil {
		return err
	}
	defer a.client.Close()
	alone := func() bool { return len(a.has()) == 4 }
	if err := turn("one", seen, func() bool { return alone() && len(seen) == 200 }, a); err != nil {
		return err
	}
	if err := commitAll(a); err != nil {
		return err
	}
	b, err := join(l, group, topic, options[0])
	if err != nil {
		return err
	}
	defer b.client.Close()
	shared := func() bool { return len(a.has()) == 2 && len(b.has()) == 2 }
	if err := turn("two", seen, shared, a, b); err != nil {
		return err
	}
	if taken := a.taken(); !slices.Equal(taken, b.has()) {
		return fmt.Errorf("%v were taken for %v", taken, b.has())
	}
	if err := l.send(topic, 4, 200); err != nil {
		return err
	}
	if err := turn("both read", seen, func() bool { return len(seen) == 400 }, a, b); err != nil {
		return err
	}
	if err := errors.Join(commitAll(a), commitAll(b)); err != nil {
		return err
	}
	b.client.Close()
	if err := turn("one again", seen, alone, a); err != nil {
		return err
	}
	return check(len(a.taken()) == 0, "something was taken when the other went")
}

func commitAll(m *member) error {
	ctx, cancel := patience()
	defer cancel()
	return m.client.CommitUncommittedOffsets(ctx)
}

func staticMember(l *lab) error {
	topic, err := l.topic(4)
	if err != nil {
		return err
	}
	group, seen := l.name("group"), map[place]bool{}
	b, err := join(l, group, topic, kgo.InstanceID("two"))
	if err != nil {
		return err
	}
	defer b.client.Close()
	a, err := join(l, group, topic, kgo.InstanceID("one"))
	if err != nil {
		return err
	}
	defer a.client.Close()
	both := func() bool { return len(a.has()) == 2 && len(b.has()) == 2 }
	if err := turn("both", seen, both, a, b); err != nil {
		return err
	}
	before, disturbed := a.has(), b.assignments()
	a.client.Close()
	again, err := join(l, group, topic, kgo.InstanceID("one"))
	if err != nil {
		return err
	}
	defer again.client.Close()
	if err := turn("it is back", seen, func() bool { return len(again.has()) == 2 }, again, b); err != nil {
		return err
	}
	if err := check(slices.Equal(again.has(), before), "%v became %v", before, again.has()); err != nil {
		return err
	}
	return check(b.assignments() == disturbed, "the other member was disturbed")
}

func fenced(l *lab) error {
	topic, err := l.topic(2)
	if err != nil {
		return err
	}
	group, seen := l.name("group"), map[place]bool{}
	first, err := join(l, group, topic, kgo.InstanceID("one"))
	if err != nil {
		return err
	}
	defer first.client.Close()
	if err := turn("the first", seen, func() bool { return len(first.has()) == 2 }, first); err != nil {
		return err
	}
	second, err := join(l, group, topic, kgo.InstanceID("one"))
	if err != nil {
		return err
	}
	defer second.client.Close()
	if err := turn("the second", seen, func() bool { return len(second.has()) == 2 }, second); err != nil {
		return err
	}
	ended := turn("the end", seen, func() bool { return false }, first)
	return fails(ended, kerr.FencedInstanceID)
}

func commitAndResume(l *lab) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	if err := l.send(topic, 1, 100, kgo.ProducerBatchMaxBytes(600)); err != nil {
		return err
	}
	group := l.name("group")
	first, err := l.group(group, topic)
	if err != nil {
		return err
	}
	defer first.Close()
	records, err := read(first, 100)
	if err != nil {
		return err
	}
	ctx, cancel := patience()
	defer cancel()
	if err := first.CommitRecords(ctx, records[39]); err != nil {
		return err
	}
	if at := first.CommittedOffsets()[topic][0].Offset; at != 40 {
		return fmt.Errorf("committed %d, not 40", at)
	}
	first.Close()
	second, err := l.group(group, topic)
	if err != nil {
		return err
	}
	defer second.Close()
	records, err = read(second, 60)
	if err != nil {
		return err
	}
	return check(records[0].Offset == 40, "resumed at %d", records[0].Offset)
}
