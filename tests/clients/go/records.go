package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func recordCases() []testCase {
	codecs := []struct {
		name  string
		codec kgo.CompressionCodec
	}{
		{"none", kgo.NoCompression()},
		{"gzip", kgo.GzipCompression()},
		{"snappy", kgo.SnappyCompression()},
		{"lz4", kgo.Lz4Compression()},
		{"zstd", kgo.ZstdCompression()},
	}
	cases := []testCase{
		{"a seek into the middle", seek},
		{"offsets of times", times},
		{"a write wakes a waiting reader", wakes},
		{"a tombstone in a compacted topic", tombstone},
	}
	for _, one := range codecs {
		run := func(l *lab) error { return codec(l, one.codec) }
		cases = append(cases, testCase{"codec " + one.name, run})
	}
	return cases
}

func codec(l *lab, codec kgo.CompressionCodec) error {
	const partitions, count = 3, 900
	topic, err := l.topic(partitions)
	if err != nil {
		return err
	}
	if err := l.send(topic, partitions, count, kgo.ProducerBatchCompression(codec)); err != nil {
		return err
	}
	client, err := l.group(l.name("group"), topic)
	if err != nil {
		return err
	}
	defer client.Close()
	records, err := read(client, count)
	if err != nil {
		return err
	}
	values := map[string]bool{}
	var next [partitions]int64
	for _, record := range records {
		values[string(record.Value)] = true
		if record.Offset != next[record.Partition] {
			return fmt.Errorf("offset %d where %d was due", record.Offset, next[record.Partition])
		}
		next[record.Partition]++
	}
	return check(len(values) == count, "%d different values", len(values))
}

func seek(l *lab) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	if err := l.send(topic, 1, 200, kgo.ProducerBatchMaxBytes(600)); err != nil {
		return err
	}
	client, err := l.reader(topic, kgo.NewOffset().At(100))
	if err != nil {
		return err
	}
	defer client.Close()
	for _, target := range []int64{100, 137, 3, 199, 0} {
		place := kgo.EpochOffset{Epoch: -1, Offset: target}
		client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: place}})
		var found []*kgo.Record
		err := until(fmt.Sprintf("the record at %d", target), func() (bool, error) {
			var err error
			found, err = poll(client)
			return len(found) > 0, err
		})
		if err != nil {
			return err
		}
		if found[0].Offset != target {
			return fmt.Errorf("sought %d, found %d", target, found[0].Offset)
		}
	}
	return nil
}

func times(l *lab) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	if err := l.send(topic, 1, 100, kgo.ProducerBatchMaxBytes(600)); err != nil {
		return err
	}
	admin, err := l.admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	ctx, cancel := patience()
	defer cancel()
	expected := []struct{ time, offset int64 }{
		{0, 0}, {timeOf(50) - 1, 50}, {timeOf(50), 50}, {timeOf(99), 99},
		// After the last record: the end.
		{timeOf(100), 100},
	}
	for _, one := range expected {
		listed, err := admin.ListOffsetsAfterMilli(ctx, one.time, topic)
		if err != nil {
			return err
		}
		if found := listed[topic][0]; found.Err != nil || found.Offset != one.offset {
			return fmt.Errorf("time %d: %+v, not %d", one.time, found, one.offset)
		}
	}
	newest, err := admin.ListMaxTimestampOffsets(ctx, topic)
	if err != nil {
		return err
	}
	found := newest[topic][0]
	return check(found.Offset == 99 && found.Timestamp == timeOf(99), "the newest: %+v", found)
}

// wakes has a reader that waits for a byte or a minute and a half, longer than the case has.
func wakes(l *lab) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	reader, err := l.reader(topic, kgo.NewOffset().AtStart(), kgo.FetchMaxWait(90*time.Second))
	if err != nil {
		return err
	}
	defer reader.Close()
	writer, err := l.client(kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer writer.Close()
	for i := range 3 {
		for range 8 {
			early, err := poll(reader)
			if err != nil || len(early) > 0 {
				return fmt.Errorf("%d records too many, %w", len(early), err)
			}
		}
		value := fmt.Sprintf("v%d", i)
		ctx, cancel := patience()
		err := writer.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr()
		cancel()
		if err != nil {
			return err
		}
		records, err := read(reader, 1)
		if err != nil {
			return err
		}
		if found := string(records[0].Value); found != value {
			return fmt.Errorf("%s, not %s", found, value)
		}
	}
	return nil
}

func tombstone(l *lab) error {
	topic, err := l.topic(1, "cleanup.policy", "compact")
	if err != nil {
		return err
	}
	client, err := l.client(kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := patience()
	defer cancel()
	for _, record := range []*kgo.Record{
		kgo.KeyStringRecord("a", "1"),
		kgo.KeyStringRecord("b", "2"),
		{Key: []byte("a")},
	} {
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
	}
	keyless := client.ProduceSync(ctx, kgo.StringRecord("no key")).FirstErr()
	if err := check(keyless != nil, "a record without a key was taken"); err != nil {
		return err
	}
	reader, err := l.reader(topic, kgo.NewOffset().AtStart())
	if err != nil {
		return err
	}
	defer reader.Close()
	records, err := read(reader, 3)
	if err != nil {
		return err
	}
	last := records[2]
	return check(string(last.Key) == "a" && last.Value == nil, "the last is %+v", last)
}
