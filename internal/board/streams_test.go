package board

import (
	"slices"
	"testing"
)

// TestAStreamThatIsOverTakesNoNews: a node goes on by another stream while the one before has not been noticed to be over. Whichever of the two is
// woken by news, it reaches the node.
func TestAStreamThatIsOverTakesNoNews(t *testing.T) {
	c := newCluster(t)
	c.put(catalog("sets-aa", set("aa", "red")), program("p", "aa"), stateOf("n1", []string{"p"}))
	before := c.follow("n1")
	before.take()
	now := *before
	var resumed bool
	if now.sub, now.attachment, resumed = c.board.Subscribe("n1", before.epoch, before.cursor); !resumed {
		t.Fatal("the node was not known any more")
	}
	<-now.sub.Wake()
	now.take()
	c.put(endpoints("n2", pod("ns/a", "red", "10.0.0.1")))
	<-before.sub.Wake()
	if _, current := before.sub.Take(before.attachment, Also{}); current {
		t.Fatal("the stream before counts as the newest")
	}
	select {
	case <-now.sub.Wake():
	default:
		t.Fatal("the stream that the node follows hears nothing of the news")
	}
	if told := now.take(); !slices.Equal(told, []string{"+ NodeEndpoints n2 ns/a"}) {
		t.Errorf("told %q", told)
	}
}
