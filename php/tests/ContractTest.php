<?php

declare(strict_types=1);

namespace FastifyPushBridge\Tests;

use FastifyPushBridge\Client\CloseCode;
use FastifyPushBridge\Client\Position;
use FastifyPushBridge\Identity;
use FastifyPushBridge\Json;
use FastifyPushBridge\Message;
use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Result;
use FastifyPushBridge\SignedCall;
use FastifyPushBridge\Topic;
use FastifyPushBridge\Transport\Transport;
use PHPUnit\Framework\TestCase;

/** The same list of cases as the tests of the nodes. */
final class ContractTest extends TestCase
{
    /** @return list<array<string, mixed>> */
    private static function cases(string $name): array
    {
        $text = (string) file_get_contents(__DIR__ . '/fixtures/contract.json');
        return json_decode($text, true, 512, JSON_THROW_ON_ERROR)[$name];
    }

    /** @param \Closure(array<string, mixed>): bool $isGood */
    private function assertAll(string $name, \Closure $isGood): void
    {
        foreach (self::cases($name) as $case) {
            self::assertSame($case['ok'], $isGood($case), "$name: " . json_encode($case));
        }
    }

    public function testTopics(): void
    {
        $this->assertAll('topics', static fn (array $it) => Topic::problem($it['value']) === null);
        $this->assertAll('patterns', static fn (array $it) => Identity::patternProblem($it['value']) === null);
    }

    public function testRights(): void
    {
        $this->assertAll('rights', static function (array $it): bool {
            try {
                Identity::check(['allow' => [$it['value']]]);
                return true;
            } catch (PushException) {
                return false;
            }
        });
    }

    /** Nodes and clients of JSON take what PHP would refuse by default. */
    public function testDeepMessagesAreRead(): void
    {
        foreach ([['{"a":', '}'], ['[', ']']] as [$open, $close]) {
            $value = Json::decodeArray(str_repeat($open, 1000) . '1' . str_repeat($close, 1000));
            for ($depth = 0; is_array($value); $depth++) {
                $value = end($value);
            }
            self::assertSame([1000, 1], [$depth, $value]);
        }
        self::assertNull(Json::decodeArray(str_repeat('[', 1_000_000)));
    }

    public function testTypes(): void
    {
        $this->assertAll('types', static fn (array $it) => Message::typeProblem($it['value']) === null);
        $this->assertAll('reserved', static fn (array $it) => Message::isReserved($it['value']));
    }

    public function testCloseCodes(): void
    {
        $transport = $this->createStub(Transport::class);
        $transport->method('command')->willReturn(Result::of('user:1', ['nodes' => 0]));
        $publisher = new Publisher($transport);
        $this->assertAll('closes', static function (array $it) use ($publisher): bool {
            try {
                $publisher->close('user:1', $it['code'], $it['reason']);
                return true;
            } catch (PushException) {
                return false;
            }
        });
        $this->assertAll('reconnect', static fn (array $it) => CloseCode::shouldReconnect($it['value']));
    }

    public function testPositions(): void
    {
        $this->assertAll('covered', static fn (array $it) => Position::isCovered($it['id'], $it['by']));
    }

    public function testSignatures(): void
    {
        $body = self::cases('signature')['body'];
        $this->assertAll('signed', static function (array $it) use ($body): bool {
            try {
                return (new SignedCall($it['secrets']))->verify($body, $it['header'], $it['now'])['kind'] === 'connect';
            } catch (PushException) {
                return false;
            }
        });
    }

    public function testASecretThatIsMissingIsAnErrorAndNotAnOpenDoor(): void
    {
        foreach ([[], '', [''], ['good', '']] as $secrets) {
            try {
                new SignedCall($secrets);
                self::fail(json_encode($secrets) . ' was taken');
            } catch (PushException $problem) {
                self::assertSame('PUSH_ERR_OPTIONS', $problem->errorCode);
            }
        }
    }

    public function testBytesThatAreNoUtf8AreRefused(): void
    {
        foreach (["channel:K\xe4se", "user:\xed\xa0\x80", "channel:\xff"] as $topic) {
            self::assertNotNull(Topic::problem($topic));
            self::assertNotFalse(json_encode(Topic::problem($topic)));
        }
    }
}
