package main

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// limitCases are about what one home has and the other refuses: at once, and with the protocol's own error.
func limitCases(isKafka bool) []testCase {
	if isKafka {
		return []testCase{
			{"transactions", transactions},
			{"ACLs can be switched on", administered(aclsAreOff)},
		}
	}
	return []testCase{
		{"transactions are refused", noTransactions},
		{"ACLs are refused", administered(noAcls)},
	}
}

func transactions(l *lab) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	client, err := l.client(kgo.DefaultProduceTopic(topic), kgo.TransactionalID(l.name("transaction")))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := patience()
	defer cancel()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		value := "aborted"
		if end == kgo.TryCommit {
			value = "committed"
		}
		if err := client.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
			return err
		}
		if err := client.EndTransaction(ctx, end); err != nil {
			return err
		}
	}
	committed := kgo.FetchIsolationLevel(kgo.ReadCommitted())
	reader, err := l.reader(topic, kgo.NewOffset().AtStart(), committed)
	if err != nil {
		return err
	}
	defer reader.Close()
	records, err := read(reader, 1)
	if err != nil {
		return err
	}
	return check(string(records[0].Value) == "committed", "%s was read", records[0].Value)
}

func noTransactions(l *lab) error {
	topic, err := l.topic(1)
	if err != nil {
		return err
	}
	client, err := l.client(kgo.DefaultProduceTopic(topic), kgo.TransactionalID(l.name("transaction")))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := patience()
	defer cancel()
	refused := client.BeginTransaction()
	if refused == nil {
		refused = client.ProduceSync(ctx, kgo.StringRecord("v")).FirstErr()
	}
	// The client tells the reason in words only.
	reason := kerr.TransactionalIDAuthorizationFailed.Message
	isTold := refused != nil && strings.Contains(refused.Error(), reason)
	return check(isTold, "not %s, but %v", reason, refused)
}

func describeAcls(ctx context.Context, admin *kadm.Client) error {
	everything := kadm.NewACLs().Topics().Groups().Operations().ResourcePatternType(kadm.ACLPatternAny)
	described, err := admin.DescribeACLs(ctx, everything.Allow().AllowHosts())
	if err != nil {
		return err
	}
	return described[0].Err
}

func aclsAreOff(ctx context.Context, _ *lab, admin *kadm.Client) error {
	return fails(describeAcls(ctx, admin), kerr.SecurityDisabled)
}

func noAcls(ctx context.Context, _ *lab, admin *kadm.Client) error {
	err := describeAcls(ctx, admin)
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		return check(false, "not refused at once, but %v", err)
	}
	return nil
}
