<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests;

use FastifyPushBridge\Identity;
use FastifyPushBridge\Message;
use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Redis\Failure;
use FastifyPushBridge\Result;
use FastifyPushBridge\Transport\RedisOptions;
use FastifyPushBridge\Transport\Transport;
use PHPUnit\Framework\TestCase;

final class MessageTest extends TestCase
{
    private static function codeOf(\Closure $call): ?string
    {
        try {
            $call();
            return null;
        } catch (PushException $problem) {
            return $problem->errorCode;
        }
    }

    public function testTheEnvelopeIsThatOfTheContract(): void
    {
        self::assertSame('{"type":"a","payload":{}}', Message::of('a')->envelope(null));
        self::assertSame('{"type":"a","payload":null}', Message::of('a', null)->envelope(null));
        self::assertSame('{"type":"a","payload":[1.0,"ä/辣"]}', Message::of('a', [1.0, 'ä/辣'])->envelope(null));
        $message = Message::of('a', ['x' => []])->except('user:1', 'connection:c')->from(null)->numbered(7)->withAck();
        self::assertSame(
            '{"type":"a","payload":{"x":[]},"except":["user:1","connection:c"],"from":{"user":null},"seq":7,"receipt":"t","ack":true}',
            $message->envelope('t'),
        );
        self::assertSame(
            '{"type":"a","payload":1,"to":"all","history":{"size":10,"ttl":60},"idempotencyKey":"k"}',
            Message::of('a', 1)->recorded(10, 60, 'k')->request('all'),
        );
    }

    public function testWhatCannotBeUsedIsRefused(): void
    {
        $of = static fn (mixed $payload) => static fn () => Message::of('a', $payload);
        $loop = new \stdClass();
        $loop->self = $loop;
        $cases = [
            'PUSH_ERR_TYPE' => [fn () => Message::of('a b'), fn () => Message::of('')],
            'PUSH_ERR_RESERVED_TYPE' => [fn () => Message::of('welcome'), fn () => Message::of('push.x')],
            'PUSH_ERR_FIELD' => [
                $of("K\xe4se"), $of(NAN), $of(INF), $of($loop), $of(fopen('php://memory', 'r')),
                fn () => Message::of('a')->recorded(0, 1), fn () => Message::of('a')->recorded(1, 0),
                fn () => Message::of('a')->recorded(100_001, 1), fn () => Message::of('a')->recorded(1, 31_622_401),
                fn () => Message::of('a')->recorded(1, 1, ''), fn () => Message::of('a')->recorded(1, 1, str_repeat('x', 201)),
                fn () => Message::of('a')->recorded(1, 1, "\xff"), fn () => Message::of('a')->numbered(-1),
                fn () => Message::of('a')->except('channel:x'), fn () => Message::of('a')->except('users:1'),
                fn () => Message::of('a')->except(...array_fill(0, 101, 'user:1')), fn () => Message::of('a')->from('a b'),
            ],
            'PUSH_ERR_OPTIONS' => [fn () => new RedisOptions('pu sh:'), fn () => new RedisOptions('user:'), fn () => new RedisOptions(timeout: 0.0)],
        ];
        foreach ($cases as $code => $calls) {
            foreach ($calls as $i => $call) {
                self::assertSame($code, self::codeOf($call), "$code $i");
            }
        }
    }

    public function testATicketThatWouldBeRefusedIsRefusedBefore(): void
    {
        $good = [
            [], ['user' => '42'], ['user' => 42], ['user' => null], ['expires' => (time() + 60) * 1000],
            ['join' => ['channel:a', 'user:1'], 'allow' => ['channel:a.*', ['topics' => ['channel:b'], 'actions' => ['publish']]]],
            ['allow' => [['topics' => ['channel:a'], 'actions' => [], 'info' => ['role' => 'owner']]]],
        ];
        foreach ($good as $identity) {
            self::assertNull(self::codeOf(static fn () => Identity::encode($identity)), (string) json_encode($identity));
        }
        $bad = [
            ['usr' => '42'], ['user' => 'a b'], ['user' => 1.5], ['user' => PHP_INT_MAX], ['join' => 'channel:a'], ['join' => ['all']],
            ['join' => ['x' => 'channel:a']], ['allow' => ['orders.*']], ['allow' => [1]], ['allow' => [['topics' => ['channel:a']]]],
            ['allow' => [['topics' => ['channel:a'], 'actions' => ['read']]]], ['expires' => time() + 60], ['expires' => (time() - 60) * 1000],
            ['issuedAt' => (time() + 120) * 1000], ['info' => str_repeat('x', 1024)], ['data' => "\xff"], ['expires' => '2026-01-01'],
            ['allow' => [['topics' => ['channel:a'], 'actions' => [], 'inof' => 1]]],
            ['allow' => [['topics' => ['channel:a'], 'actions' => [], 'info' => str_repeat('x', 1024)]]],
        ];
        foreach ($bad as $identity) {
            self::assertNotNull(self::codeOf(static fn () => Identity::encode($identity)), var_export($identity, true));
        }
        $right = ['topics' => ['channel:a'], 'actions' => ['presence'], 'info' => str_repeat('x', 1000)];
        self::assertSame('PUSH_ERR_TOO_LARGE', self::codeOf(static fn () => Identity::encode(['allow' => array_fill(0, 128, $right)])));
    }

    public function testWhatRedisSaysAboutAFailureHasNoPayloadInIt(): void
    {
        $failure = Failure::ofReply("ERR unknown command 'FCALL', with args beginning with: 'push_publish' '1' 'secret' ");
        self::assertSame('PUSH_ERR_UNSUPPORTED', $failure->errorCode);
        self::assertStringNotContainsString('secret', $failure->getMessage());
        self::assertSame('PUSH_ERR_TYPE', Failure::ofReply('PUSH_ERR_TYPE no type')->errorCode);
        self::assertTrue(Failure::ofReply("NOPERM this user has no permissions to run the 'publish' command")->isAway());
        self::assertTrue(Failure::ofReply('TRYAGAIN the slot is being moved')->isAway());
    }

    public function testWhatIsWrongInABatchIsNotSentAndKeepsNothingBack(): void
    {
        $transport = $this->createMock(Transport::class);
        $transport->expects(self::once())->method('publish')->willReturnCallback(static fn (array $items) => array_map(
            static fn (array $item) => Result::of($item['topic'], ['nodes' => 1]),
            $items,
        ));
        $large = Message::of('a', str_repeat('x', 262_144));
        $results = (new Publisher($transport))->publishAll([
            ['user:1', Message::of('a')], ['users:1', Message::of('a')], ['user:2', $large],
            ['connection:c', Message::of('a')->recorded(1, 1)], ['user:3', Message::of('b')],
        ]);
        $said = array_map(static fn (Result $result) => [$result->topic, $result->error?->errorCode, $result->nodes()], $results);
        self::assertSame([
            ['user:1', null, 1], ['users:1', 'PUSH_ERR_TOPIC', 0], ['user:2', 'PUSH_ERR_TOO_LARGE', 0],
            ['connection:c', 'PUSH_ERR_FIELD', 0], ['user:3', null, 1],
        ], $said);
        $many = array_fill(0, 1001, ['all', Message::of('a')]);
        self::assertSame('PUSH_ERR_TOO_LARGE', self::codeOf(static fn () => (new Publisher($transport))->publishAll($many)));
    }

    public function testOnlyWhatHasAKeyIsSentAgain(): void
    {
        foreach ([['k', 3], [null, 1]] as [$key, $expected]) {
            $calls = 0;
            $transport = $this->createStub(Transport::class);
            $transport->method('publish')->willReturnCallback(static function (array $items) use (&$calls): array {
                $problem = new PushException('PUSH_ERR_UNCONFIRMED', 'no answer');
                return [++$calls < 3 ? Result::failed($items[0]['topic'], $problem) : Result::of($items[0]['topic'], ['seq' => 1])];
            });
            $publish = static fn () => (new Publisher($transport))->publish('user:1', Message::of('a')->recorded(1, 1, $key));
            self::assertSame($key === null ? 'PUSH_ERR_UNCONFIRMED' : null, self::codeOf($publish));
            self::assertSame($expected, $calls);
        }
    }

    public function testQuestionsThatCannotBeAreRefused(): void
    {
        $publisher = new Publisher($this->createStub(Transport::class));
        foreach ([
            'PUSH_ERR_TOPIC' => [
                fn () => $publisher->close('channel:x'), fn () => $publisher->close('all'), fn () => $publisher->revoke('connection:c'),
                fn () => $publisher->subscribe('user:1', 'user:2'), fn () => $publisher->history('connection:c'),
                fn () => $publisher->presence('x'), fn () => $publisher->publish("user:\xff", Message::of('a')),
            ],
            'PUSH_ERR_FIELD' => [
                fn () => $publisher->presence('all', 'x'), fn () => $publisher->presence('all', '0', 0), fn () => $publisher->user(''),
                fn () => $publisher->history('all', ['last' => 101]), fn () => $publisher->history('all', ['since' => 1]),
                fn () => $publisher->ticket([], 0), fn () => $publisher->ticket([], 86_401),
            ],
            'PUSH_ERR_UNKNOWN_KEY' => [fn () => $publisher->history('all', ['sicne' => 'x'])],
        ] as $code => $calls) {
            foreach ($calls as $i => $call) {
                self::assertSame($code, self::codeOf($call), "$code $i");
            }
        }
    }
}
