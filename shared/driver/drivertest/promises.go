package drivertest

// Promise names one thing that every driver keeps, unless its harness says why it
// cannot.
type Promise string

// The promises.
const (
	Delivers          Promise = "delivers"
	KeepsOrder        Promise = "keeps order"
	KeepsOrderOver    Promise = "keeps order over batches"
	Formations        Promise = "keeps formations apart"
	StopsBehind       Promise = "stops behind a failure"
	RefusesAlone      Promise = "refuses one document alone"
	RefusesForGood    Promise = "refuses for good"
	Oversize          Promise = "refuses what is too large"
	Empty             Promise = "takes an empty batch"
	Huge              Promise = "takes a huge batch"
	AnyData           Promise = "carries any data"
	AnyDocument       Promise = "carries any document id"
	EqualIDs          Promise = "repeats under equal ids"
	DropsRepeats      Promise = "drops repeats"
	Until             Promise = "begins nothing late"
	BreaksOff         Promise = "breaks off"
	WaitsForSlow      Promise = "waits for the slow"
	GivesUpHanging    Promise = "gives up on the hanging"
	WaitsForBusy      Promise = "comes back to the busy"
	HeedsNotBefore    Promise = "heeds when to come back"
	SaysUnreachable   Promise = "tells that nobody is there"
	SurvivesCut       Promise = "survives a cut connection"
	SurvivesLostReply Promise = "survives a lost answer"
	SurvivesKill      Promise = "survives a killed target"
	SurvivesRestart   Promise = "survives a restarted target"
	SaysDenied        Promise = "tells wrong credentials"
	TakesRotation     Promise = "takes new credentials"
	KeepsSecrets      Promise = "keeps secrets"
	Guarded           Promise = "reaches nothing inside"
	CloseEnds         Promise = "ends when closed"
	LeavesNothing     Promise = "leaves nothing behind"
	Whatever          Promise = "loses nothing, whatever happens"
)

// promise is a promise with the sentence that the documentation has for it and the
// test that holds a driver to it.
type promise struct {
	name     Promise
	sentence string
	needs    func(h *Harness) string // what the harness lacks for the test; nil: nothing
	test     func(s *stand)
}

// promises is all of them, in the order of the documentation.
var promises = []promise{
	{Delivers, "An event that counts as delivered is at the target, with every attribute and its data unchanged.", nil, delivers},
	{KeepsOrder, "The events of a document in a batch arrive in their order.", nil, keepsOrder},
	{KeepsOrderOver, "So do those of many batches, one after the other.", nil, keepsOrderOver},
	{Formations, "Formations may use one sink at the same time; documents of the same id in two of them do not mix.", nil, formations},
	{StopsBehind, "Nothing of a document is sent after an event of it that failed; it stays untried.", needsPoison, stopsBehind},
	{RefusesAlone, "An event that the target refuses stops its document and no other of the batch.", needsPoison, refusesAlone},
	{RefusesForGood, "What the target will never take is refused and parked at once, not tried again for a day.", needsPoison, refusesForGood},
	{Oversize, "An event larger than the target takes is refused, and stops no other document.", needsMaxEvent, oversize},
	{Empty, "An empty batch is nothing.", nil, empty},
	{Huge, "A batch of 3,000 events is delivered like a small one.", nil, huge},
	{AnyData, "Quotes, line ends, every kind of Unicode, two bytes or 200 kB arrive as they were.", nil, anyData},
	{AnyDocument, "A document's id may hold dots, stars, blanks, slashes, quotes, percent signs and any Unicode; two ids never become one.", nil, anyDocument},
	{EqualIDs, "An event that is sent again has the same id, in the place where receivers look for it.", nil, equalIDs},
	{DropsRepeats, "The target drops an event that comes a second time soon after.", nil, dropsRepeats},
	{Until, "Nothing begins after its time is up, or after it was called off.", nil, untilIsUp},
	{BreaksOff, "When delivery is called off, an attempt under way ends soon, and counts as delivered only if it was.", needsProxy, breaksOff},
	{WaitsForSlow, "A target that is slow, but answers within the attempt's time, is waited for.", needsProxy, waitsForSlow},
	{GivesUpHanging, "A target that does not answer is tried again after the attempt's time; what was sent does not count.", needsProxy, givesUpHanging},
	{WaitsForBusy, "A target that takes nothing for a while is tried again; no event is refused for it.", needsBusy, waitsForBusy},
	{HeedsNotBefore, "If it says when it wants to be asked again, that is heeded.", needsAsks, heedsNotBefore},
	{SaysUnreachable, "That nobody is there is the sink's trouble and not a document's.", needsProxy, saysUnreachable},
	{SurvivesCut, "A connection cut at any byte loses nothing and keeps first arrivals in order.", needsProxy, survivesCut},
	{SurvivesLostReply, "If only the answer is lost, what comes again has equal ids and follows its own order.", needsProxy, survivesLostReply},
	{SurvivesKill, "A target killed in the middle of a batch still has what counts as delivered, and gets the rest.", needsRestart, survivesKill},
	{SurvivesRestart, "A target restarted between two batches is connected to again by itself.", needsRestart, survivesRestart},
	{SaysDenied, "Wrong credentials are the sink's trouble, and are told apart from silence.", needsDenies, saysDenied},
	{TakesRotation, "After credentials have changed, the sink with the new ones goes on where the old one stopped.", needsRotate, takesRotation},
	{KeepsSecrets, "No reason holds a password, a token or the query of a URL.", needsSecrets, keepsSecrets},
	{Guarded, "An address inside the operator's network is not connected to unless the operator allows it.", needsProxy, guarded},
	{CloseEnds, "A sink can be closed while it delivers; what is under way ends within its attempt's time.", needsProxy, closeEnds},
	{LeavesNothing, "A closed sink leaves no connection and no goroutine.", nil, leavesNothing},
	{Whatever, "Under a mix of all these faults every event arrives, first arrivals in order, repeats under equal ids, none from elsewhere.", nil, whatever},
}

// What promises need of a harness.

func lacks(it bool, what string) string {
	if it {
		return what
	}
	return ""
}

func needsProxy(h *Harness) string { return lacks(h.Proxy == nil, "Proxy") }
func needsPoison(h *Harness) string {
	return lacks(h.Refuse == nil && h.MaxEvent == 0, "Refuse or MaxEvent")
}
func needsMaxEvent(h *Harness) string { return lacks(h.MaxEvent == 0, "MaxEvent") }
func needsBusy(h *Harness) string     { return lacks(h.Busy == nil, "Busy") }
func needsAsks(h *Harness) string     { return lacks(h.Busy == nil || h.Asks == 0, "Busy and Asks") }
func needsRestart(h *Harness) string {
	return lacks(h.Kill == nil || h.Restart == nil || h.Proxy == nil, "Kill, Restart and Proxy")
}
func needsDenies(h *Harness) string { return lacks(!h.Denies, "Denies") }
func needsRotate(h *Harness) string {
	return lacks(h.Rotate == nil || h.Proxy == nil, "Rotate and Proxy")
}
func needsSecrets(h *Harness) string {
	return lacks(len(h.Secrets) == 0 || h.Proxy == nil, "Secrets and Proxy")
}
