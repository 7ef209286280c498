package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func topicCases() []testCase {
	return []testCase{
		{"topics are made, described, altered and grown", administered(topics)},
		{"a topic is deleted", administered(deleteTopic)},
		{"records are deleted up to an offset", administered(deleteRecords)},
		{"groups are listed, described and deleted", administered(manageGroups)},
	}
}

// administered gives a case an administrator, and ends its patience.
func administered(run func(context.Context, *lab, *kadm.Client) error) func(*lab) error {
	return func(l *lab) error {
		admin, err := l.admin()
		if err != nil {
			return err
		}
		defer admin.Close()
		ctx, cancel := patience()
		defer cancel()
		return run(ctx, l, admin)
	}
}

func setting(ctx context.Context, admin *kadm.Client, topic, name string) (string, error) {
	described, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", err
	}
	for _, config := range described[0].Configs {
		if config.Key == name {
			return config.MaybeValue(), described[0].Err
		}
	}
	return "", described[0].Err
}

func alter(ctx context.Context, admin *kadm.Client, topic, name, value string) error {
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
	if err != nil {
		return err
	}
	return altered[0].Err
}

func topics(ctx context.Context, l *lab, admin *kadm.Client) error {
	topic, err := l.topic(2, "retention.ms", "3600000")
	if err != nil {
		return err
	}
	_, again := admin.CreateTopic(ctx, 2, 1, nil, topic)
	if err := fails(again, kerr.TopicAlreadyExists); err != nil {
		return err
	}
	if err := alter(ctx, admin, topic, "segment.ms", "60000"); err != nil {
		return err
	}
	err = until("the new value", func() (bool, error) {
		value, err := setting(ctx, admin, topic, "segment.ms")
		return value == "60000", err
	})
	if err != nil {
		return err
	}
	kept, err := setting(ctx, admin, topic, "retention.ms")
	if err != nil || kept != "3600000" {
		return check(false, "retention.ms is %q, %v", kept, err)
	}
	if err := fails(alter(ctx, admin, topic, "retention.ms", "soon"), kerr.InvalidConfig); err != nil {
		return err
	}
	grown, err := admin.UpdatePartitions(ctx, 5, topic)
	if err != nil {
		return err
	}
	if err := grown.Error(); err != nil {
		return err
	}
	if err := awaitPartitions(admin, topic, 5); err != nil {
		return err
	}
	fewer, err := admin.UpdatePartitions(ctx, 3, topic)
	if err != nil {
		return err
	}
	return fails(fewer.Error(), kerr.InvalidPartitions)
}

func deleteTopic(ctx context.Context, l *lab, admin *kadm.Client) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	if _, err := admin.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	err = until("it is gone", func() (bool, error) {
		found, err := admin.ListTopics(ctx, topic)
		return err == nil && found[topic].Err != nil, err
	})
	if err != nil {
		return err
	}
	_, again := admin.DeleteTopic(ctx, topic)
	return fails(again, kerr.UnknownTopicOrPartition)
}

func deleteRecords(ctx context.Context, l *lab, admin *kadm.Client) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	if err := l.send(topic, 1, 100, kgo.ProducerBatchMaxBytes(600)); err != nil {
		return err
	}
	before := func(offset int64) error {
		var offsets kadm.Offsets
		offsets.AddOffset(topic, 0, offset, -1)
		deleted, err := admin.DeleteRecords(ctx, offsets)
		if err != nil {
			return err
		}
		return deleted.Error()
	}
	if err := before(45); err != nil {
		return err
	}
	reader, err := l.reader(topic, kgo.NewOffset().AtStart())
	if err != nil {
		return err
	}
	defer reader.Close()
	records, err := read(reader, 55)
	if err != nil {
		return err
	}
	if records[0].Offset != 45 {
		return check(false, "the first is %d", records[0].Offset)
	}
	return fails(before(101), kerr.OffsetOutOfRange)
}

func manageGroups(ctx context.Context, l *lab, admin *kadm.Client) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	if err := l.send(topic, 1, 1); err != nil {
		return err
	}
	group := l.name("group")
	client, err := l.group(group, topic)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := read(client, 1); err != nil {
		return err
	}
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	described, err := admin.DescribeGroups(ctx, group)
	if err != nil {
		return err
	}
	found := described[group]
	if found.State != "Stable" || len(found.Members) != 1 {
		return check(false, "described as %+v", found)
	}
	offsets, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	if at, _ := offsets.Lookup(topic, 0); at.At != 1 {
		return check(false, "offsets %+v", offsets)
	}
	client.Close()
	if _, err := admin.DeleteGroup(ctx, group); err != nil {
		return err
	}
	listed, err := admin.ListGroups(ctx)
	if err != nil {
		return err
	}
	_, isThere := listed[group]
	return check(!isThere, "it is still listed")
}
