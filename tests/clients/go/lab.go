package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// soon is how long a client waits for what should come at once.
	soon = 30 * time.Second
	step = 50 * time.Millisecond
	// startMillis is when the first record of a topic was: well before today.
	startMillis = 1_600_000_000_000
)

// A lab is a place to run the cases: clients, and names of its own.
type lab struct {
	bootstrap string
	run       string
	names     atomic.Int64
}

func newLab(bootstrap string) *lab {
	return &lab{bootstrap: bootstrap, run: rand.Text()[:8]}
}

func (l *lab) name(prefix string) string {
	return fmt.Sprintf("%s-go-%s-%d", prefix, l.run, l.names.Add(1))
}

func (l *lab) client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.bootstrap)}, options...)...)
}

func (l *lab) admin() (*kadm.Client, error) {
	client, err := l.client()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

// group gives a member of a group that reads from the earliest and commits only when told.
func (l *lab) group(group, topic string, options ...kgo.Opt) (*kgo.Client, error) {
	usual := []kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(20 * time.Second),
		kgo.HeartbeatInterval(500 * time.Millisecond),
	}
	return l.client(append(usual, options...)...)
}

// reader gives a client that reads partition 0 of a topic from an offset, in no group.
func (l *lab) reader(topic string, from kgo.Offset, options ...kgo.Opt) (*kgo.Client, error) {
	places := map[string]map[int32]kgo.Offset{topic: {0: from}}
	return l.client(append([]kgo.Opt{kgo.ConsumePartitions(places)}, options...)...)
}

// topic makes a topic that keeps everything, also records of long ago, unless the settings say otherwise.
func (l *lab) topic(partitions int32, settings ...string) (string, error) {
	admin, err := l.admin()
	if err != nil {
		return "", err
	}
	defer admin.Close()
	forever := "-1"
	configs := map[string]*string{"retention.ms": &forever}
	for i := 0; i < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	name := l.name("topic")
	ctx, cancel := patience()
	defer cancel()
	if _, err := admin.CreateTopic(ctx, partitions, 1, configs, name); err != nil {
		return "", err
	}
	return name, awaitPartitions(admin, name, int(partitions))
}

// awaitPartitions waits until metadata shows what Kafka has acknowledged before.
func awaitPartitions(admin *kadm.Client, topic string, wanted int) error {
	return until(fmt.Sprintf("%s with %d partitions", topic, wanted), func() (bool, error) {
		ctx, cancel := patience()
		defer cancel()
		found, err := admin.ListTopics(ctx, topic)
		if err != nil || found[topic].Err != nil {
			return false, err
		}
		led := 0
		for _, partition := range found[topic].Partitions {
			if partition.Err == nil && partition.Leader >= 0 {
				led++
			}
		}
		return led == wanted, nil
	})
}

// send sends values v0, v1, ... with keys k0 to k9, round robin over the partitions, one second after the other.
func (l *lab) send(topic string, partitions, count int, options ...kgo.Opt) error {
	usual := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5 * time.Millisecond)}
	client, err := l.client(append(usual, options...)...)
	if err != nil {
		return err
	}
	defer client.Close()
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = &kgo.Record{
			Topic:     topic,
			Partition: int32(i % partitions),
			Key:       fmt.Appendf(nil, "k%d", i%10),
			Value:     fmt.Appendf(nil, "v%d", i),
			Timestamp: time.UnixMilli(timeOf(i)),
		}
	}
	ctx, cancel := patience()
	defer cancel()
	return client.ProduceSync(ctx, records...).FirstErr()
}

// timeOf tells when record i of send was, in milliseconds.
func timeOf(i int) int64 {
	return startMillis + int64(i)*1000
}

// read polls until there are count records, and fails if there are more.
func read(client *kgo.Client, count int) ([]*kgo.Record, error) {
	var all []*kgo.Record
	err := until(fmt.Sprintf("%d records", count), func() (bool, error) {
		records, err := poll(client)
		all = append(all, records...)
		return len(all) >= count, err
	})
	if err == nil && len(all) != count {
		err = fmt.Errorf("%d records, not %d", len(all), count)
	}
	return all, err
}

// poll gives what arrives within a moment.
func poll(client *kgo.Client) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), step)
	defer cancel()
	fetches := client.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		if !errors.Is(failed.Err, context.DeadlineExceeded) {
			return nil, failed.Err
		}
	}
	return fetches.Records(), nil
}

// until asks again and again until the answer is yes.
func until(what string, holds func() (bool, error)) error {
	deadline := time.Now().Add(soon)
	for {
		yes, err := holds()
		if yes || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v", what, soon)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), soon)
}

// check gives an error if a thing does not hold.
func check(holds bool, format string, values ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, values...)
}

// fails gives an error unless err is the expected one.
func fails(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return fmt.Errorf("not %v, but %v", expected, err)
}
