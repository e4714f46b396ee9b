package journal

// Two spaces with one byte do not compile.
var _ = map[Space]bool{
	spaceMeta: true, spaceEntries: true, spaceParts: true, spaceIDs: true, spaceRows: true, spaceSpooled: true,
	spaceSpools: true, spaceExtents: true, SpaceReaders: true, SpaceNames: true, SpaceRouted: true,
	SpaceSeen: true, SpaceBackfill: true, SpaceBacklog: true, SpaceAudience: true, SpaceProgress: true,
	SpaceSends: true, SpaceEnds: true, SpaceOpen: true, SpaceUnread: true, SpaceSkips: true, SpaceCancels: true,
	SpaceHistory: true, SpaceRetracts: true, SpaceDepartures: true, SpaceGateway: true, SpaceTotals: true,
}
