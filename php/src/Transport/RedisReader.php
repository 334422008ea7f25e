<?php

declare(strict_types=1);

namespace FastifyPushBridge\Transport;

use FastifyPushBridge\Json;
use FastifyPushBridge\Message;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Redis\Commands;

/** What backends read in Redis: who is there, and what is kept of a topic. */
final class RedisReader
{
    /** A script keeps no ticks, so it cannot know that Redis went back in time: it reads what is there. */
    private const FIRST_TIMELINE = '0000000000000';
    private const ID = '/^[0-9a-z]{1,32}\.(\d{1,16})\.\d{1,16}-\d{1,16}\z/';
    private const MAX_ENVELOPE = '262144';
    private const MAX_PAGE = '1048576';

    public function __construct(private readonly Commands $commands, private readonly RedisOptions $options)
    {
    }

    /** @param non-empty-list<string> $command */
    public function ask(string $key, array $command): mixed
    {
        [$reply] = $this->commands->run([['key' => $key, 'command' => $command]]);
        if ($reply instanceof PushException) {
            throw $reply;
        }
        return $reply;
    }

    public function members(string $topic, string $cursor, int $count): array
    {
        $reply = $this->call('push_members', $topic, [$cursor, (string) $count]);
        [, , , $users, $anonymous, $next] = array_pad($reply, 6, null);
        $members = [];
        foreach (array_chunk(array_slice($reply, 6), 2) as [$user, $entry]) {
            $members[] = self::member((string) $user, (string) $entry);
        }
        $page = ['topic' => $topic, 'count' => (int) $users, 'anonymous' => (int) $anonymous, 'members' => $members];
        return (string) $next === '0' ? $page : $page + ['cursor' => (string) $next];
    }

    public function user(string $user): array
    {
        $reply = $this->call('push_member', 'all', [$user]);
        $entry = (string) ($reply[0] ?? '');
        if ($entry === '') {
            return ['user' => $user, 'online' => false, 'count' => 0, 'connections' => []];
        }
        $connections = [];
        foreach (array_chunk(array_slice($reply, 1), 2) as [$owner, $share]) {
            $node = substr((string) $owner, 0, (int) strrpos((string) $owner, '.'));
            foreach (self::entry((string) $share)['ids'] ?? [] as [$id, $since]) {
                $connections[] = ['id' => $id, 'node' => $node, 'since' => $since];
            }
        }
        $member = self::member($user, $entry);
        $count = $member['connections'];
        unset($member['connections']);
        return ['online' => true, 'count' => $count, 'connections' => $connections] + $member;
    }

    public function history(string $topic, array $query): array
    {
        $limit = (string) ($query['limit'] ?? 100);
        $last = $query['last'] ?? null;
        if (!isset($query['since'])) {
            return $this->page($topic, 'push_newest', [(string) ($last ?? $limit), $limit]);
        }
        $isId = preg_match(self::ID, $query['since']) === 1;
        $found = $this->page($topic, 'push_history', [$isId ? $query['since'] : 'none', $limit]);
        if (!isset($found['gap']) || $found['gap'] === 'rejected' || $last === null) {
            return $found;
        }
        return ['gap' => $found['gap']] + $this->page($topic, 'push_newest', [(string) $last, $limit]);
    }

    /** @param array{string, string} $which */
    private function page(string $topic, string $function, array $which): array
    {
        $arguments = [self::FIRST_TIMELINE, self::MAX_ENVELOPE, ...$which, self::MAX_PAGE];
        $reply = $this->call($function, $topic, $arguments);
        [$gap, $id, $seq, $isComplete] = array_pad($reply, 4, null);
        $entries = array_chunk(array_slice($reply, 4), 2);
        $messages = [];
        foreach ($entries as [$entryId, $envelope]) {
            $message = self::message((string) $entryId, (string) $envelope);
            if ($message === null) {
                $gap = (string) $gap === '' ? 'rejected' : $gap;
            } else {
                $messages[] = $message;
            }
        }
        $page = ['topic' => $topic, 'id' => (string) $id, 'seq' => (int) $seq, 'messages' => $messages];
        // Not the last message: those after it may all be unusable.
        $next = (int) $isComplete === 1 || $entries === [] ? null : (string) end($entries)[0];
        $page += ['complete' => $next === null] + ($next === null ? [] : ['next' => $next]);
        return (string) $gap === '' ? $page : $page + ['gap' => (string) $gap];
    }

    /** Null for what no client gets either. */
    private static function message(string $id, string $envelope): ?array
    {
        $value = Json::decodeArray($envelope);
        $type = $value['type'] ?? null;
        if (preg_match(self::ID, $id, $parts) !== 1 || !is_string($type) || Message::typeProblem($type) !== null) {
            return null;
        }
        $message = ['id' => $id, 'seq' => (int) $parts[1], 'type' => $type, 'payload' => $value['payload'] ?? null];
        if (!array_key_exists('payload', $value)) {
            $message['payload'] = [];
        }
        $except = isset($value['except']) ? ['except' => (array) $value['except']] : [];
        return $message + (isset($value['from']) ? ['from' => $value['from']] : []) + $except;
    }

    private function call(string $function, string $topic, array $arguments): array
    {
        $channel = $this->options->prefix . $topic;
        $reply = $this->ask($channel, ['FCALL', $function, '1', $channel, ...$arguments]);
        if (!is_array($reply)) {
            throw new PushException('PUSH_ERR_INTERNAL', "$function gave no list: another library may have its name");
        }
        return $reply;
    }

    private static function member(string $user, string $text): array
    {
        $entry = self::entry($text);
        $member = ['user' => $user, 'connections' => (int) $entry['connections'], 'since' => $entry['since'] ?? null];
        return array_key_exists('info', $entry) ? $member + ['info' => $entry['info']] : $member;
    }

    private static function entry(string $text): array
    {
        $entry = Json::decodeArray($text);
        if (!isset($entry['connections'])) {
            throw new PushException(
                'PUSH_ERR_INTERNAL',
                'the presence of a topic in Redis does not have the format of push_v1',
            );
        }
        return $entry;
    }
}
